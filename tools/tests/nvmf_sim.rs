//! `nvmf-sim` as a person uses it: the program is run, and what it says is read.

#![allow(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nvmf-sim")).args(arguments).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let output = sim(arguments);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (status(&output), value)
}

/// Runs a command as a report prints it, and asks for JSON.
fn again(command: &Value) -> (i32, Value) {
    let command = command.as_str().unwrap();
    let (program, arguments) = command.split_once(" run ").unwrap();
    assert_eq!(Path::new(program), Path::new(env!("CARGO_BIN_EXE_nvmf-sim")));
    let arguments: Vec<_> = ["run", "--json"].into_iter().chain(arguments.split(' ')).collect();
    json(&arguments)
}

#[test]
fn alone_it_says_what_it_can_do() {
    let output = sim(&[]);
    assert_eq!(status(&output), 2);
    let help = complained(&output);
    for word in ["run", "list", "Examples", "Exit status"] {
        assert!(help.contains(word), "{help}");
    }
    assert_eq!(status(&sim(&["--help"])), 0);
    assert_eq!(status(&sim(&["run", "--help"])), 0);
}

#[test]
fn scenarios_are_listed_for_people_and_machines() {
    let listed = said(&sim(&["list"]));
    assert!(listed.contains("hosts-come-and-go"), "{listed}");
    assert!(!listed.contains("on-purpose"), "those are not for every day");
    assert_eq!(said(&sim(&["list", "--scenario", "hosts-come-and-go"])).lines().count(), 1);
    let (code, value) = json(&["list", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(value.as_array().unwrap().len(), listed.lines().count());
}

#[test]
fn a_wrong_command_line_names_the_value_and_the_way_out() {
    let cases: [(&[&str], &str); 5] = [
        (&["run", "--scenario", "host-come-and-go"], "\"hosts-come-and-go\""),
        (&["run", "--choices", "calm"], "--scenario"),
        (&["run", "--scenario", "hosts-come-and-go", "--choices", "7"], "12=1"),
        (&["run", "--seed", "1", "--seeds", "2"], "--seeds"),
        (&["run", "--jobs", "none"], "none"),
    ];
    for (arguments, named) in cases {
        let output = sim(arguments);
        assert_eq!(status(&output), 2, "{arguments:?}");
        assert!(complained(&output).contains(named), "{arguments:?}: {}", complained(&output));
    }
}

#[test]
fn runs_without_failure_end_well_and_are_counted() {
    let output = sim(&["run", "--scenario", "hosts-come", "--seeds", "3", "--trace"]);
    assert_eq!(status(&output), 0, "{output:?}");
    let text = said(&output);
    for word in ["hosts-come-and-go", "queue pair lives", "nothing wrong", "is reaped", "cpu 0"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_run_is_the_same_in_every_process_and_on_any_number_of_threads() {
    let run = |jobs: &str| {
        let (code, value) = json(&[
            "run",
            "--scenario",
            "hosts-come-and-go",
            "--first-seed",
            "7",
            "--seeds",
            "4",
            "--jobs",
            jobs,
            "--json",
        ]);
        assert_eq!(code, 0, "{value}");
        let row = &value["scenarios"][0];
        assert!(row["first_run"]["choices"].as_u64().unwrap() > 100, "{value}");
        (row["first_run"].clone(), row["steps"].clone(), row["lives"].clone())
    };
    let first = run("1");
    assert_eq!(run("1"), first);
    assert_eq!(run("3"), first);
}

#[test]
fn fresh_seeds_are_printed_and_minutes_are_kept_to() {
    let output = sim(&["run", "--scenario", "hosts-come-and-go", "--fresh", "--minutes", "0.01"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(complained(&output).contains("--first-seed"), "{output:?}");
}

#[test]
fn a_failure_is_told_with_its_seed_its_command_and_a_short_trace() {
    let output = sim(&["run", "--scenario", "fails-on-purpose", "--seeds", "50"]);
    assert_eq!(status(&output), 1, "{output:?}");
    let text = said(&output);
    for word in ["FAILED: fails-on-purpose --seed", "on purpose", "again", "sweeps on destroy", "--choices", "is quiet"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_commands_of_a_report_repeat_the_failure() {
    for scenario in ["fails-on-purpose", "panics-on-purpose"] {
        let (code, value) = json(&["run", "--scenario", scenario, "--seeds", "50", "--json"]);
        assert_eq!(code, 1);
        let failure = &value["failures"][0];
        let shrunk = &failure["shrunk"];
        assert!(shrunk["special_choices"].as_u64().unwrap() <= 2, "{failure:#}");
        assert!(failure["seed"].is_u64());
        for (command, what) in [(&failure["replay"], &failure["what"]), (&shrunk["replay"], &shrunk["what"])] {
            let (code, value) = again(command);
            assert_eq!(code, 1, "{command}");
            assert_eq!(&value["failures"][0]["what"], what);
            assert_eq!(value["failures"][0]["found_by"], failure["found_by"]);
        }
    }
}

#[test]
fn which_failure_is_told_does_not_depend_on_threads() {
    let told = |jobs: &str| {
        let (code, value) = json(&["run", "--scenario", "panics-on-purpose", "--jobs", jobs, "--json"]);
        assert_eq!(code, 1);
        let failure = &value["failures"][0];
        (failure["seed"].clone(), failure["shrunk"].clone(), failure["trace"].clone())
    };
    assert_eq!(told("1"), told("4"));
}

#[test]
fn it_goes_on_if_asked_to_and_does_not_shrink_if_asked_not_to() {
    let (code, value) =
        json(&["run", "--scenario", "panics-on-purpose", "--seeds", "40", "--keep-going", "--no-shrink", "--json"]);
    assert_eq!(code, 1);
    let count = value["scenarios"][0]["failures"].as_u64().unwrap();
    assert!(count > 1);
    assert_eq!(value["scenarios"][0]["runs"], 40);
    assert_eq!(value["more_failures"].as_array().unwrap().len() as u64, count - 1);
    assert!(value["failures"][0]["shrunk"].is_null());
}

/// As this one was.
#[cfg(not(feature = "defects"))]
#[test]
fn built_without_defects_it_says_how_to_build_it_with_them() {
    let cases: [&[&str]; 2] = [&["defects"], &["run", "--defect", "no-deadline", "--scenario", "one-host-leaves"]];
    for arguments in cases {
        let output = sim(arguments);
        assert_eq!(status(&output), 2, "{arguments:?}: {output:?}");
        assert!(complained(&output).contains("--features defects"), "{arguments:?}: {output:?}");
    }
}

#[cfg(feature = "defects")]
#[test]
fn a_defect_is_found_and_its_run_is_repeated_by_the_command_that_is_told() {
    let (code, value) = json(&["defects", "--only", "lease-goes-home-early", "--json"]);
    assert_eq!((code, &value["complete"]), (0, &Value::Bool(true)), "{value:#}");
    let finder = &value["defects"][0]["found_by"][0];
    let (code, repeated) = again(&finder["replay"]);
    assert_eq!((code, &repeated["failures"][0]["what"]), (1, &finder["what"]), "{repeated:#}");
}

#[test]
fn an_unknown_defect_is_named_with_what_may_be_meant() {
    let output = sim(&["run", "--defect", "no-deadlime"]);
    assert_eq!(status(&output), 2);
    assert!(complained(&output).contains("\"no-deadline\""), "{output:?}");
}

#[test]
fn a_scenario_that_is_another_each_time_is_found() {
    let (code, value) = json(&["run", "--scenario", "differs-on-purpose", "--seeds", "1", "--json"]);
    assert_eq!(code, 1);
    assert_eq!(value["failures"][0]["found_by"], "determinism", "{value:#}");
    assert!(value["failures"][0]["what"].as_str().unwrap().contains("choice 1"), "{value:#}");
}

#[test]
fn a_step_that_does_not_end_is_told_with_its_seed() {
    let output = sim(&["run", "--scenario", "hangs-on-purpose", "--first-seed", "5", "--patience", "1"]);
    assert_eq!(status(&output), 1, "{output:?}");
    let text = said(&output);
    assert!(text.contains("does not end") && text.contains("--scenario hangs-on-purpose --seed"), "{text}");
}

#[test]
fn exploring_finds_what_is_one_choice_away_and_says_how_far_it_came() {
    let (code, value) = json(&["run", "--scenario", "fails-on-purpose", "--explore", "--kind", "sweeps*", "--json"]);
    assert_eq!(code, 1);
    assert_eq!(value["failures"][0]["shrunk"]["special_choices"], 1, "{value:#}");
    let all = said(&sim(&["run", "--scenario", "fails-on-purpose", "--explore", "--kind", "loses*"]));
    assert!(all.contains("1 choice: all"), "{all}");
    let cut = said(&sim(&["run", "--scenario", "fails-on-purpose", "--explore", "--kind", "who acts", "--limit", "5"]));
    assert!(cut.contains("cut by --limit: NOT exhaustive"), "{cut}");
}
