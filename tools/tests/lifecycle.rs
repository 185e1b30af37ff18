//! The page of published defects and the scenarios agree: what the page names is there, and what a scenario says that it is about is told on the page.

use std::collections::{BTreeMap, BTreeSet};

use nvmf_core::defect::Defect;
use tools::sim::scenarios;

const PAGE: &str = include_str!("../../docs/LIFECYCLE.md");

/// What an entry has that a deliberate defect makes again.
const MARK: &str = " ◆";

/// The page's rows: entries (a row may have several) with the scenarios that it names for them.
fn rows() -> BTreeMap<String, BTreeSet<String>> {
    let mut rows = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, entries, scenarios, _, _] = cells[..] else { panic!("a row of other than three cells: {line}") };
        let named = scenarios.split('`').skip(1).step_by(2).map(str::to_owned);
        let named: BTreeSet<String> = named.collect();
        let entries = entries.split(", ").map(|entry| entry.trim_end_matches(MARK));
        for entry in entries.filter(|entry| entry.ends_with(|last: char| last.is_ascii_digit())) {
            let earlier = rows.insert(entry.to_owned(), named.clone());
            assert!(earlier.is_none(), "{entry} has two rows");
        }
    }
    rows
}

#[test]
fn every_scenario_that_the_page_names_is_there() {
    let known: BTreeSet<String> = scenarios::all().iter().map(|scenario| scenario.name.to_owned()).collect();
    for (entry, named) in rows() {
        let missing: Vec<_> = named.difference(&known).collect();
        assert!(missing.is_empty(), "{entry} names {missing:?}, and no scenario is called so");
    }
}

#[test]
fn the_page_names_every_scenario_for_the_entries_that_it_says_it_is_about() {
    let rows = rows();
    assert!(rows.len() > 120, "only {} entries were found on the page", rows.len());
    for scenario in scenarios::all() {
        for entry in scenario.entries {
            let row = rows.get(*entry).unwrap_or_else(|| panic!("{}: {entry} is not on the page", scenario.name));
            assert!(row.contains(scenario.name), "the row of {entry} does not name {}", scenario.name);
        }
    }
}

#[test]
fn entries_are_marked_that_a_defect_makes_again_and_no_others() {
    let cells = PAGE.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(1));
    let entries = cells.flat_map(|cell| cell.trim().split(", "));
    let marked: BTreeSet<&str> = entries.filter_map(|entry| entry.strip_suffix(MARK)).collect();
    let made: BTreeSet<&str> = Defect::ALL.iter().flat_map(|defect| defect.entries()).copied().collect();
    assert_eq!(marked, made);
}

#[test]
fn every_defect_has_scenarios_that_are_about_it_and_every_family_a_defect() {
    for defect in Defect::ALL {
        let is_about = |entries: &[&str]| entries.iter().any(|entry| defect.entries().contains(entry));
        let has_one = scenarios::all().iter().any(|scenario| is_about(scenario.entries));
        assert!(has_one, "no scenario says that it is about {:?}, which {} makes", defect.entries(), defect.name());
    }
    for family in 'A'..='H' {
        let has_one = Defect::ALL.iter().any(|defect| defect.entries()[0].starts_with(family));
        assert!(has_one, "family {family} has no defect");
    }
}
