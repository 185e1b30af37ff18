//! Which CPUs of the operating system this process may use, and pinning to one.

use std::sync::OnceLock;

use super::{Placement, RuntimeError};

/// What the kernel's mask has room for; a larger number makes `core_affinity` abort.
const MAX_OS_CPU_COUNT: usize = 1024;

/// The mask as it was before any thread was pinned: a pinned thread sees only its own CPU.
static ALLOWED: OnceLock<Box<[usize]>> = OnceLock::new();

/// Whether a thread can be pinned to `os_cpu`.
pub(super) fn check(os_cpu: usize) -> Result<(), RuntimeError> {
    if os_cpu < MAX_OS_CPU_COUNT && os_cpus_allowed().contains(&os_cpu) { Ok(()) } else { Err(no_such_cpu(os_cpu)) }
}

/// Puts the calling thread where it belongs.
pub(super) fn place(placement: Placement) -> Result<(), RuntimeError> {
    match placement {
        Placement::Floating => Ok(()),
        Placement::Pinned { os_cpu } => {
            check(os_cpu)?;
            // The errno is lost; what the call may complain about is a CPU that went away.
            if core_affinity::set_for_current(core_affinity::CoreId { id: os_cpu }) {
                Ok(())
            } else {
                Err(no_such_cpu(os_cpu))
            }
        }
    }
}

/// The operating system's CPUs that reactors of this process can be pinned to, ascending: what the process may use, as it was before any thread
/// was pinned.
#[must_use]
pub fn os_cpus_allowed() -> &'static [usize] {
    ALLOWED.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect())
}

fn no_such_cpu(os_cpu: usize) -> RuntimeError {
    RuntimeError::NoSuchCpu { os_cpu, allowed: as_list(os_cpus_allowed()) }
}

/// As the kernel writes CPU lists: `0-3,8`.
fn as_list(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) | None => ranges.push((number, number)),
        }
    }
    let words = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_the_kernels() {
        assert_eq!(as_list(&[]), "");
        assert_eq!(as_list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
    }

    #[test]
    fn a_number_beyond_the_mask_is_an_error_that_names_what_is_allowed() {
        for os_cpu in [1023, 1024, usize::MAX] {
            let error = check(os_cpu).unwrap_err().to_string();
            assert!(error.contains(&os_cpu.to_string()) && error.contains(&as_list(os_cpus_allowed())), "{error}");
        }
    }
}
