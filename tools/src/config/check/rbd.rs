//! Devices of type "rbd".

use std::ops::Range;

use bdev::ClusterOptions;
use toml::Spanned;

use super::value::{number, quoted};
use crate::config::report::{Report, nearest};
use crate::config::{ClusterSection, RbdCluster, RbdSection, shape};

/// The fields that no other type has, where they are.
pub(super) fn spans(section: &shape::Device) -> Vec<(&'static str, Range<usize>)> {
    let texts = [
        ("pool", &section.pool),
        ("image", &section.image),
        ("namespace", &section.namespace),
        ("snapshot", &section.snapshot),
        ("user", &section.user),
        ("cluster", &section.cluster),
    ];
    let texts = texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?.span())));
    let conf = section.conf.as_ref().map(|value| ("conf", value.span()));
    let key_file = section.key_file.as_ref().map(|value| ("key_file", value.span()));
    let settings = section.settings.as_ref().map(|value| ("settings", value.span()));
    let fenced = section.fenced.as_ref().map(|value| ("fenced", value.span()));
    texts.chain(conf).chain(key_file).chain(settings).chain(fenced).collect()
}

/// Connections that images share.
pub(super) fn check_clusters(sections: Vec<shape::Cluster>, report: &mut Report<'_>) -> Vec<ClusterSection> {
    let mut clusters: Vec<ClusterSection> = Vec::new();
    for section in sections {
        let name = section.name.get_ref();
        if name.is_empty() || clusters.iter().any(|cluster| cluster.name == *name) {
            report.refuse(section.name.span(), "cluster.name", quoted(name), "a name that no other cluster has");
        }
        let options = ClusterOptions {
            config_file: section.conf,
            user: section.user,
            key_file: section.key_file,
            settings: section.settings.into_iter().collect(),
        };
        clusters.push(ClusterSection { name: section.name.into_inner(), options });
    }
    clusters
}

/// The image's own connection, or a shared one, which says the rest itself.
fn check_cluster(
    named: impl Fn(&str) -> String,
    section: &shape::Device,
    clusters: &[ClusterSection],
    report: &mut Report<'_>,
) -> RbdCluster {
    let Some(cluster) = &section.cluster else {
        return RbdCluster::Own(ClusterOptions {
            config_file: section.conf.as_ref().map(|conf| conf.get_ref().clone()),
            user: section.user.as_ref().map(|user| user.get_ref().clone()),
            key_file: section.key_file.as_ref().map(|file| file.get_ref().clone()),
            settings: section.settings.iter().flat_map(|settings| settings.get_ref().clone()).collect(),
        });
    };
    let name = cluster.get_ref();
    if !clusters.iter().any(|known| known.name == *name) {
        let allowed = match nearest(name, clusters.iter().map(|cluster| cluster.name.as_str())) {
            Some(other) => format!("there is no such [[cluster]]; did you mean {other:?}?"),
            None => "there is no such [[cluster]]".to_owned(),
        };
        report.refuse(cluster.span(), &named("cluster"), quoted(name), &allowed);
    }
    let own = ["conf", "user", "key_file", "settings"];
    for (field, span) in spans(section).into_iter().filter(|(field, _)| own.contains(field)) {
        report.say(Some(span), format!("{}: not together with cluster, whose [[cluster]] says it", named(field)));
    }
    RbdCluster::Shared(name.clone())
}

pub(super) fn check(
    name: &str,
    section: shape::Device,
    clusters: &[ClusterSection],
    report: &mut Report<'_>,
) -> RbdSection {
    let named = |field: &str| format!("device \"{name}\": {field}");
    let kind_span = section.kind.span();
    let cluster = check_cluster(named, &section, clusters, report);
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
        cluster,
        read_only,
        fenced,
        queue_depth: number(section.queue_depth, &named("queue_depth"), 128, 1..=4096, report),
    }
}
