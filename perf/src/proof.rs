//! What the host proves itself with where the target asks: secrets, from the command line or from files.

use std::path::{Path, PathBuf};

use clap::Args;
use nvmf_core::auth::{Credentials, GroupId, GroupSet, HashId, HashSet, RandomSource, Secret};
use transport_rdma::host::HostAuthentication;

/// Arguments of every job.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Proof {
    /// This host's secret, as nvme gen-dhchap-key writes it. Everybody on this machine can read a command line: better --dhchap-secret-file
    #[arg(long, global = true, value_name = "SECRET")]
    dhchap_secret: Option<String>,
    /// A file with this host's secret
    #[arg(long, global = true, value_name = "FILE")]
    dhchap_secret_file: Option<PathBuf>,
    /// The controller's secret: it has to prove that it knows it
    #[arg(long, global = true, value_name = "SECRET")]
    dhchap_ctrl_secret: Option<String>,
    /// A file with the controller's secret
    #[arg(long, global = true, value_name = "FILE")]
    dhchap_ctrl_secret_file: Option<PathBuf>,
    /// Hash functions to offer: sha256, sha384, sha512 [default: all]
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    dhchap_digests: Vec<String>,
    /// Groups to offer: null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192 [default: all]
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    dhchap_dhgroups: Vec<String>,
}

impl Proof {
    /// `None` where no secret was given. Errors never say what a secret was.
    pub(crate) fn authentication(&self) -> Result<Option<HostAuthentication>, String> {
        let secret = secret("--dhchap-secret", self.dhchap_secret.as_deref(), self.dhchap_secret_file.as_deref())?;
        let (ctrl, ctrl_file) = (self.dhchap_ctrl_secret.as_deref(), self.dhchap_ctrl_secret_file.as_deref());
        let controller_secret = self::secret("--dhchap-ctrl-secret", ctrl, ctrl_file)?;
        let Some(secret) = secret else {
            let is_given =
                controller_secret.is_some() || !self.dhchap_digests.is_empty() || !self.dhchap_dhgroups.is_empty();
            return if is_given {
                Err("--dhchap-… goes with --dhchap-secret or --dhchap-secret-file".to_owned())
            } else {
                Ok(None)
            };
        };
        let mut credentials = Credentials::new(secret, controller_secret);
        if !self.dhchap_digests.is_empty() {
            let known = "known are sha256, sha384, sha512";
            let hashes = named(&self.dhchap_digests, "--dhchap-digests", HashId::from_name, known)?;
            credentials.hashes = hashes.into_iter().fold(HashSet::empty(), HashSet::with);
        }
        if !self.dhchap_dhgroups.is_empty() {
            let known = "known are null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192";
            let groups = named(&self.dhchap_dhgroups, "--dhchap-dhgroups", GroupId::from_name, known)?;
            credentials.groups = groups.into_iter().fold(GroupSet::empty(), GroupSet::with);
        }
        // It answers now, and so it does later.
        getrandom::fill(&mut [0]).map_err(|error| format!("the system's random bytes: {error}"))?;
        let random = RandomSource::new(|bytes| getrandom::fill(bytes).expect("the system's random bytes"));
        Ok(Some(HostAuthentication { credentials, random }))
    }
}

fn secret(option: &str, text: Option<&str>, file: Option<&Path>) -> Result<Option<Secret>, String> {
    let (from, text) = match (text, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(format!("{option} and {option}-file do not go together")),
        (Some(text), None) => (option.to_owned(), text.to_owned()),
        (None, Some(path)) => {
            let from = format!("{option}-file {}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| format!("{from}: {error}"))?;
            (from, text)
        }
    };
    Secret::parse(&text).map(Some).map_err(|error| format!("{from}: {error}"))
}

fn named<T>(names: &[String], option: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<Vec<T>, String> {
    names.iter().map(|name| parse(name).ok_or_else(|| format!("{option}: there is no {name:?}; {known}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";

    #[test]
    fn what_is_given_is_what_is_shown() {
        assert!(Proof::default().authentication().unwrap().is_none());
        let proof =
            Proof { dhchap_secret: Some(SECRET.into()), dhchap_dhgroups: vec!["null".into()], ..Proof::default() };
        let credentials = proof.authentication().unwrap().unwrap().credentials;
        assert!(credentials.controller_secret.is_none());
        assert_eq!((credentials.hashes, credentials.groups), (HashSet::ALL, GroupSet::empty().with(GroupId::Null)));
    }

    #[test]
    fn errors_name_the_option_and_hide_the_secret() {
        let error = |proof: Proof| proof.authentication().unwrap_err();
        let half = Proof { dhchap_secret: Some(SECRET[..30].into()), ..Proof::default() };
        let told = error(half);
        assert!(told.starts_with("--dhchap-secret: ") && !told.contains("AAEC"), "{told}");
        let lonely = Proof { dhchap_ctrl_secret: Some(SECRET.into()), ..Proof::default() };
        assert!(error(lonely).contains("goes with --dhchap-secret"));
        let both =
            Proof { dhchap_secret: Some(SECRET.into()), dhchap_secret_file: Some("x".into()), ..Proof::default() };
        assert!(error(both).contains("do not go together"));
        let nowhere = Proof { dhchap_secret_file: Some("/no/such/file".into()), ..Proof::default() };
        assert!(error(nowhere).starts_with("--dhchap-secret-file /no/such/file: "));
        let unknown =
            Proof { dhchap_secret: Some(SECRET.into()), dhchap_digests: vec!["md5".into()], ..Proof::default() };
        assert!(error(unknown).contains("there is no \"md5\""));
    }
}
