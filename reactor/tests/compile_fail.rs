//! Each misuse in `compile_fail/` is refused by the compiler; what is right, in `compile_pass/`, is not.
//!
//! The `.stderr` beside each misuse is what the compiler of [`COMPILER`] says, word for word: that is compared, so that a file fails for the reason
//! that its first line gives and no other. Other compilers word things differently: with them only the errors' codes are
//! compared. To write the `.stderr` files anew, with a compiler that becomes the new [`COMPILER`], and then read the difference:
//!
//! ```sh
//! TRYBUILD=overwrite cargo test -p reactor --test compile_fail && git diff reactor/tests/compile_fail
//! ```

#![expect(clippy::unwrap_used, reason = "a test: panicking is how it fails")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trybuild::TestCases;

/// Whose words the `.stderr` files are.
const COMPILER: &str = "rustc 1.95.";

/// The only test of this program: it may change the environment.
#[test]
fn misuse_does_not_compile_and_use_does() {
    if cfg!(loom) || env::var("RUSTFLAGS").is_ok_and(|flags| flags.contains("sanitizer")) {
        // Other flags make other programs, but the compiler refuses the same ones; and macros do not run under a sanitizer.
        println!("not run with these flags: left to the ordinary tests");
        return;
    }
    let misuses = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail");
    let compiler = compiler();
    if compiler.starts_with(COMPILER) {
        try_all(Path::new("tests/compile_fail"));
        return;
    }
    println!("{compiler} is not {COMPILER}x: of what it says only the errors' codes are compared");
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    let names = copy_misuses(&misuses, &copies);
    // SAFETY: no other thread of this process reads the environment.
    unsafe { env::set_var("TRYBUILD", "overwrite") };
    try_all(&copies);
    for name in names {
        let expected = codes(&misuses.join(&name).with_extension("stderr"));
        assert_eq!(codes(&copies.join(&name).with_extension("stderr")), expected, "{name}");
    }
}

fn try_all(misuses: &Path) {
    let cases = TestCases::new();
    cases.compile_fail(misuses.join("*.rs").display().to_string());
    cases.pass("tests/compile_pass/*.rs");
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    String::from_utf8(Command::new(rustc).arg("--version").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Their names.
fn copy_misuses(from: &Path, to: &Path) -> Vec<String> {
    fs::create_dir_all(to).unwrap();
    let files = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = files.filter(|name| name.ends_with(".rs")).collect();
    for name in &names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    names
}

/// `E0521` and the like; nothing in the place of an error that has no code.
fn codes(stderr: &Path) -> Vec<String> {
    let text = fs::read_to_string(stderr).unwrap();
    let errors = text.lines().filter_map(|line| line.strip_prefix("error"));
    let mut codes: Vec<_> = errors.map(|rest| rest.split(':').next().unwrap_or_default().to_owned()).collect();
    codes.sort();
    codes
}
