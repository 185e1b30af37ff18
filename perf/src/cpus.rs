//! Which CPUs to poll on: lists (`1`, `1-2`, `0,2-3`), SPDK's masks (`0x6`) and its bracketed lists (`[1,2]`).

use std::fs;

/// CPUs in ascending order, none twice.
pub(crate) fn parse(text: &str) -> Result<Vec<usize>, String> {
    let text = text.trim();
    let mut cpus = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => parse_mask(digits)?,
        None => parse_list(text.trim_start_matches('[').trim_end_matches(']'))?,
    };
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Err("names no CPU; allowed are a list (1 or 0,2-3) or a mask (0x6)".to_owned());
    }
    Ok(cpus)
}

fn parse_mask(digits: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for (position, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16).ok_or_else(|| format!("{digit:?} is no hexadecimal digit of a CPU mask"))?;
        cpus.extend((0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| position * 4 + bit));
    }
    Ok(cpus)
}

fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let number = |word: &str| {
        let cpu = word.trim().parse::<usize>().ok().filter(|&cpu| cpu < 4096);
        cpu.ok_or_else(|| format!("{word:?} is no CPU number; allowed are a list (1 or 0,2-3) or a mask (0x6)"))
    };
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        match part.split_once('-') {
            None => cpus.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(format!("the range {part} runs backwards"));
                }
                cpus.extend(first..=last);
            }
        }
    }
    Ok(cpus)
}

/// The CPUs that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| allowed_in(&status)).unwrap_or_default()
}

fn allowed_in(status: &str) -> Option<Vec<usize>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_list(line.trim()).ok()
}

/// A target process whose polling thread is pinned to one of these CPUs: both would get half of it. Its process id and the CPU.
pub(crate) fn shared_with_target(cpus: &[usize]) -> Option<(u32, usize)> {
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if name.trim() != "nvmf-tgt" {
            continue;
        }
        let Ok(tasks) = fs::read_dir(process.path().join("task")) else { continue };
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            // A thread that may run in many places gives way; one that may run in a single place was pinned there.
            if let Some([cpu]) = allowed_in(&status).as_deref()
                && cpus.contains(cpu)
            {
                return Some((id, *cpu));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_masks_and_brackets() {
        assert_eq!(parse("1"), Ok(vec![1]));
        assert_eq!(parse("1-2"), Ok(vec![1, 2]));
        assert_eq!(parse("3,0,1-2,2"), Ok(vec![0, 1, 2, 3]));
        assert_eq!(parse("0x2"), Ok(vec![1]));
        assert_eq!(parse("0x100A"), Ok(vec![1, 3, 12]));
        assert_eq!(parse("[1,2]"), Ok(vec![1, 2]));
    }

    #[test]
    fn what_is_no_list() {
        for text in ["", "0x0", "a", "1-", "3-1", "0xg", "99999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_kernel_says_what_is_allowed() {
        assert_eq!(allowed_in("Name:\tx\nCpus_allowed_list:\t0-1,4\n"), Some(vec![0, 1, 4]));
        assert!(!allowed().is_empty());
    }
}
