//! How random tests are run: how many seeds, and how a history that fails is made short.

/// Seeds of an ordinary run, or many more if `QUIESCE_TEST_LONG` is set.
pub(crate) fn seed_count(ordinary: u64) -> u64 {
    if std::env::var_os("QUIESCE_TEST_LONG").is_some() { ordinary * 30 } else { ordinary }
}

/// Leaves out of `steps` whatever is not needed for `fails` to stay true: ever smaller runs of steps, until no single one can be spared.
pub(crate) fn shortest<S: Clone>(steps: &[S], mut fails: impl FnMut(&[S]) -> bool) -> Vec<S> {
    let mut kept = steps.to_vec();
    let mut run_len = kept.len().div_ceil(2).max(1);
    loop {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() {
            let end = (at + run_len).min(kept.len());
            let without: Vec<S> = kept[..at].iter().chain(&kept[end..]).cloned().collect();
            if fails(&without) {
                kept = without;
            } else {
                at = end;
            }
        }
        if run_len > 1 {
            run_len = run_len.div_ceil(2);
        } else if kept.len() == before {
            return kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let steps: Vec<u32> = (0..500).collect();
        let needs = |kept: &[u32]| kept.contains(&3) && kept.contains(&499) && kept.iter().any(|step| step % 100 == 50);
        assert_eq!(shortest(&steps, needs).len(), 3);
        assert_eq!(shortest(&[1, 2, 3], |_| true), []);
    }
}
