//! What a reservation command came to, for people and for programs.

use std::fmt::Write as _;

use nvmf_core::host::ReservationReport;
use nvmf_core::status::Status;
use nvmf_core::wire::reservation::{ReservationRegistrant, ReservationType};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Reservation;
use crate::report::{hex, uuid_text};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct ReservationResult {
    nsid: u32,
    action: Reservation,
    /// Of the last command that ended.
    pub(crate) status: Status,
    /// Commands that succeeded.
    pub(crate) done_count: u64,
    /// NRKEY or PRKEY of the last of them.
    pub(crate) last_key: Option<u64>,
    /// Of the one that has not ended.
    pub(crate) in_flight_key: Option<u64>,
    pub(crate) elapsed_ns: u64,
    pub(crate) report: Option<ReservationReport>,
    pub(crate) was_stopped: bool,
    /// Why the connection ended before the commands did.
    pub(crate) failure: Option<String>,
}

impl ReservationResult {
    pub(crate) fn new(nsid: u32, action: Reservation) -> Self {
        Self {
            nsid,
            action,
            status: Status::SUCCESS,
            done_count: 0,
            last_key: None,
            in_flight_key: None,
            elapsed_ns: 0,
            report: None,
            was_stopped: false,
            failure: None,
        }
    }

    /// What kept it from being done.
    pub(crate) fn error(&self) -> Option<String> {
        let what = format!("reservation {} of namespace {}", self.name(), self.nsid);
        match &self.failure {
            Some(failure) => Some(format!("{what}: {failure}")),
            None if !self.status.is_success() => Some(format!("{what}: {}", self.status)),
            None => None,
        }
    }

    pub(crate) fn to_text(&self) -> String {
        match (&self.action, &self.report) {
            (Reservation::Report, Some(report)) => table(self.nsid, report),
            (Reservation::Rotate(_), _) => self.rotation(),
            _ if self.error().is_some() => String::new(),
            _ => format!("namespace {}: {} is done\n", self.nsid, self.name()),
        }
    }

    /// A report has the names that nvme-cli's has.
    pub(crate) fn to_json(&self) -> String {
        let value = match (&self.action, &self.report) {
            (Reservation::Report, Some(report)) => json!(ReportJson::new(report)),
            _ => json!({
                "nsid": self.nsid,
                "action": self.name(),
                "done": self.done_count,
                "elapsed_s": self.elapsed_s(),
                "last_key": self.last_key,
                "in_flight_key": self.in_flight_key,
                "error": self.error(),
            }),
        };
        value.to_string()
    }

    fn rotation(&self) -> String {
        let mut text = format!("namespace {}: {} changes", self.nsid, self.done_count);
        if let Some(key) = self.last_key {
            let rate = self.done_count as f64 / self.elapsed_s().max(1e-9);
            let _ = write!(text, " in {:.3} s, {rate:.0} per second; the key is {}", self.elapsed_s(), key_text(key));
        }
        if let Some(key) = self.in_flight_key {
            let _ = write!(text, ", or {}, which was not answered", key_text(key));
        }
        text + "\n"
    }

    fn elapsed_s(&self) -> f64 {
        self.elapsed_ns as f64 / 1e9
    }

    fn name(&self) -> &'static str {
        match self.action {
            Reservation::Register(_) => "register",
            Reservation::Acquire(_) => "acquire",
            Reservation::Release(_) => "release",
            Reservation::Report => "report",
            Reservation::Rotate(_) => "rotate",
        }
    }
}

fn table(nsid: u32, report: &ReservationReport) -> String {
    let kind = match report.kind {
        Some(kind) => format!("{} (type {})", kind_name(kind), kind.to_byte()),
        None => "not reserved".to_owned(),
    };
    let persists =
        if report.is_persistent { "kept through a loss of power" } else { "not kept through a loss of power" };
    let count = report.registrant_count;
    let mut text =
        format!("namespace {nsid}: {kind}, {count} registrants, generation {}, {persists}\n", report.generation);
    if !report.registrants.is_empty() {
        let _ = writeln!(text, "{:<36}  {:<18}  {:<10}  holds it", "host identifier", "key", "controller");
    }
    for registrant in &report.registrants {
        let _ = writeln!(
            text,
            "{}  {}  {:<10}  {}",
            uuid_text(&registrant.host_id),
            key_text(registrant.key.get()),
            controller_text(registrant.controller_id.get()),
            if is_holder(registrant) { "yes" } else { "no" },
        );
    }
    let more = usize::from(count) - report.registrants.len().min(usize::from(count));
    if more > 0 {
        let _ = writeln!(text, "and {more} more: the controller transfers no longer report");
    }
    text
}

fn key_text(key: u64) -> String {
    format!("{key:#018x}")
}

/// FFFFh: the host's controllers are dynamic [NVMe Base 2.0, 7.5].
fn controller_text(id: u16) -> String {
    if id == u16::MAX { "dynamic".to_owned() } else { id.to_string() }
}

fn is_holder(registrant: &ReservationRegistrant) -> bool {
    registrant.status & ReservationRegistrant::HOLDER != 0
}

fn kind_name(kind: ReservationType) -> &'static str {
    match kind {
        ReservationType::WriteExclusive => "write exclusive",
        ReservationType::ExclusiveAccess => "exclusive access",
        ReservationType::WriteExclusiveRegistrants => "write exclusive, registrants only",
        ReservationType::ExclusiveAccessRegistrants => "exclusive access, registrants only",
        ReservationType::WriteExclusiveAll => "write exclusive, all registrants",
        ReservationType::ExclusiveAccessAll => "exclusive access, all registrants",
    }
}

#[derive(Serialize)]
struct ReportJson {
    r#gen: u32,
    rtype: u8,
    regctl: u16,
    ptpls: u8,
    regctlext: Vec<RegistrantJson>,
}

#[derive(Serialize)]
struct RegistrantJson {
    cntlid: u16,
    rcsts: u8,
    rkey: u64,
    hostid: String,
}

impl ReportJson {
    fn new(report: &ReservationReport) -> Self {
        let registrant = |registrant: &ReservationRegistrant| RegistrantJson {
            cntlid: registrant.controller_id.get(),
            rcsts: registrant.status,
            rkey: registrant.key.get(),
            hostid: hex(&registrant.host_id),
        };
        Self {
            r#gen: report.generation,
            rtype: report.kind.map_or(0, ReservationType::to_byte),
            regctl: report.registrant_count,
            ptpls: report.is_persistent.into(),
            regctlext: report.registrants.iter().map(registrant).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Rotate;

    #[test]
    fn a_report_is_a_table_and_has_nvme_clis_names() {
        let mut result = ReservationResult::new(3, Reservation::Report);
        result.report = Some(ReservationReport {
            generation: 9,
            kind: Some(ReservationType::ExclusiveAccessRegistrants),
            is_persistent: true,
            registrant_count: 3,
            registrants: vec![
                ReservationRegistrant::new([0x11; 16], 7, true),
                ReservationRegistrant::new([0x22; 16], u64::MAX, false),
            ],
        });
        assert_eq!(
            result.to_text(),
            "namespace 3: exclusive access, registrants only (type 4), 3 registrants, generation 9, kept through a loss of power\n\
             host identifier                       key                 controller  holds it\n\
             11111111-1111-1111-1111-111111111111  0x0000000000000007  dynamic     yes\n\
             22222222-2222-2222-2222-222222222222  0xffffffffffffffff  dynamic     no\n\
             and 1 more: the controller transfers no longer report\n"
        );
        let found: serde_json::Value = serde_json::from_str(&result.to_json()).unwrap();
        assert_eq!(
            found,
            json!({
                "gen": 9, "rtype": 4, "regctl": 3, "ptpls": 1,
                "regctlext": [
                    { "cntlid": 65535, "rcsts": 1, "rkey": 7, "hostid": "11111111111111111111111111111111" },
                    { "cntlid": 65535, "rcsts": 0, "rkey": u64::MAX, "hostid": "22222222222222222222222222222222" },
                ],
            })
        );
    }

    #[test]
    fn a_rotation_that_broke_off_says_what_is_known() {
        let rotate = Reservation::Rotate(Rotate { key: 1, count: 10, persist: true });
        let mut result = ReservationResult::new(1, rotate);
        (result.done_count, result.last_key, result.in_flight_key) = (4, Some(4), Some(5));
        result.elapsed_ns = 2_000_000_000;
        result.failure = Some("lost".into());
        assert_eq!(
            result.to_text(),
            "namespace 1: 4 changes in 2.000 s, 2 per second; the key is 0x0000000000000004, or 0x0000000000000005, which was not answered\n"
        );
        assert_eq!(result.error().unwrap(), "reservation rotate of namespace 1: lost");
        let found: serde_json::Value = serde_json::from_str(&result.to_json()).unwrap();
        assert_eq!((&found["last_key"], &found["in_flight_key"]), (&json!(4), &json!(5)));
    }
}
