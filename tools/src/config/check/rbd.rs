//! Devices of type "rbd".

use std::ops::Range;

use toml::Spanned;

use super::value::number;
use crate::config::report::Report;
use crate::config::{RbdSection, shape};

/// The fields that no other type has, where they are.
pub(super) fn spans(section: &shape::Device) -> Vec<(&'static str, Range<usize>)> {
    let texts = [
        ("pool", &section.pool),
        ("image", &section.image),
        ("namespace", &section.namespace),
        ("snapshot", &section.snapshot),
        ("user", &section.user),
    ];
    let texts = texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?.span())));
    let conf = section.conf.as_ref().map(|value| ("conf", value.span()));
    let fenced = section.fenced.as_ref().map(|value| ("fenced", value.span()));
    texts.chain(conf).chain(fenced).collect()
}

pub(super) fn check(name: &str, section: shape::Device, report: &mut Report<'_>) -> RbdSection {
    let named = |field: &str| format!("device \"{name}\": {field}");
    let kind_span = section.kind.span();
    let mut needed = |field: &str, value: Option<Spanned<String>>| match value {
        None => {
            report.say(Some(kind_span.clone()), format!("{} is missing: such as {field} = \"{field}0\"", named(field)));
            String::new()
        }
        Some(value) if value.get_ref().is_empty() => {
            report.refuse(value.span(), &named(field), "\"\"", "a name");
            String::new()
        }
        Some(value) => value.into_inner(),
    };
    let (pool, image) = (needed("pool", section.pool), needed("image", section.image));
    let read_only = section.read_only.is_some_and(Spanned::into_inner);
    let fenced = section.fenced.as_ref().is_some_and(|fenced| *fenced.get_ref());
    if let Some(field) = &section.fenced
        && fenced
        && (read_only || section.snapshot.is_some())
    {
        report.refuse(field.span(), &named("fenced"), "true", "false for what takes no writes: it has no lock");
    }
    RbdSection {
        pool,
        image,
        namespace: section.namespace.map(Spanned::into_inner),
        snapshot: section.snapshot.map(Spanned::into_inner),
        conf: section.conf.map(Spanned::into_inner),
        user: section.user.map(Spanned::into_inner),
        read_only,
        fenced,
        queue_depth: number(section.queue_depth, &named("queue_depth"), 128, 1..=4096, report),
    }
}
