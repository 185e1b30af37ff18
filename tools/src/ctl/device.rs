//! `nvmf-ctl device …`.

mod create;
mod fault;
mod limits;

use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::{Answer, bytes, cell, count, facts, items, number, table, time};
use super::client::Client;
use super::trouble::Trouble;
use super::words;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists them.
    List,
    /// Shows all of one.
    Show {
        /// Its name.
        name: String,
    },
    /// Makes one.
    #[command(subcommand)]
    Create(create::Command),
    /// Deletes one, and first the namespace that is made of it; answered when its last command has ended.
    Delete {
        /// Its name.
        name: String,
    },
    /// Grows one of type null or rbd. Of type file: grow the file, then `rescan`.
    Resize {
        /// Its name.
        name: String,
        /// The new size, such as 20GiB.
        #[arg(value_parser = words::mebibytes)]
        size: u64,
    },
    /// Looks how large the file of a device is now.
    Rescan {
        /// Its name.
        name: String,
    },
    /// Ends what a device has under way: it is cancelled where that can be done, and hosts send it again.
    Reset {
        /// Its name.
        name: String,
    },
    /// What they have done since the start; `nvmf-ctl top` shows what they do now.
    Stats {
        /// Of this one only.
        name: Option<String>,
    },
    /// Shows what a device's users may do in a second, or changes what is given (0: no limit).
    Limits(limits::Limits),
    /// Lets things go wrong on a device of type fault.
    #[command(subcommand)]
    Fault(fault::Command),
    /// Changes the latencies of a device of type delay.
    Latency {
        /// Its name.
        name: String,
        /// Which of the four.
        #[arg(value_parser = ["avg_read", "p99_read", "avg_write", "p99_write"])]
        kind: String,
        /// How long.
        microseconds: u64,
    },
    /// Takes the exclusive lock of a Ceph image, from another target if need be.
    AcquireLock {
        /// A fenced device of type rbd.
        name: String,
    },
    /// Gives the exclusive lock of a Ceph image up.
    ReleaseLock {
        /// A fenced device of type rbd.
        name: String,
    },
}

impl Command {
    pub(super) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        match self {
            Self::List => {
                let result = client.call("bdev_get_bdevs", &Value::Null)?;
                let text = list(&result);
                Ok(Answer::new(result, text))
            }
            Self::Show { name } => {
                let result = client.call("bdev_get_bdevs", &json!({ "name": name }))?;
                let text = items(&result).iter().map(show).collect::<Vec<_>>().join("\n\n");
                Ok(Answer::new(result, text))
            }
            Self::Create(command) => command.perform(client),
            // The method of any type deletes devices of all types.
            Self::Delete { name } => named(client, "bdev_malloc_delete", name, "is deleted"),
            Self::Resize { name, size } => resize(client, name, *size),
            Self::Rescan { name } => {
                client.call("bdev_aio_rescan", &json!({ "name": name })).and_then(|result| now(client, name, result))
            }
            Self::Reset { name } => named(client, "bdev_reset", name, "is reset"),
            Self::Stats { name } => {
                let parameters = name.as_ref().map_or(Value::Null, |name| json!({ "name": name }));
                let result = client.call("bdev_get_iostat", &parameters)?;
                let text = stats(&result);
                Ok(Answer::new(result, text))
            }
            Self::Limits(limits) => limits.perform(client),
            Self::Fault(command) => command.perform(client),
            Self::Latency { name, kind, microseconds } => {
                let parameters = json!({ "delay_bdev_name": name, "latency_type": kind, "latency_us": microseconds });
                let result = client.call("bdev_delay_update_latency", &parameters)?;
                Ok(Answer::new(result, format!("{kind} of {name} is {microseconds} µs")))
            }
            Self::AcquireLock { name } => named(client, "bdev_rbd_acquire_lock", name, "is this target's"),
            Self::ReleaseLock { name } => named(client, "bdev_rbd_release_lock", name, "is nobody's"),
        }
    }
}

/// A method whose only parameter is a device.
fn named(client: &mut Client, method: &str, name: &str, done: &str) -> Result<Answer, Trouble> {
    let result = client.call(method, &json!({ "name": name }))?;
    Ok(Answer::new(result, format!("{name} {done}")))
}

/// Grows a device to so many MiB, by the method of its type.
pub(super) fn resize(client: &mut Client, name: &str, size_mib: u64) -> Result<Answer, Trouble> {
    let devices = client.call("bdev_get_bdevs", &json!({ "name": name }))?;
    let product = cell(&devices[0]["product_name"]);
    let result = match product.as_str() {
        "Null disk" => client.call("bdev_null_resize", &json!({ "name": name, "new_size": size_mib })),
        "Ceph Rbd Disk" => client.call("bdev_rbd_resize", &json!({ "name": name, "new_size": size_mib })),
        "File" => Err(Trouble::Refused(format!(
            "{name} is as large as its file. Grow that (truncate -s {size_mib}M FILE), then: nvmf-ctl device rescan {name}"
        ))),
        other => Err(Trouble::Refused(format!(
            "{name} is of type {other:?}, which cannot be resized: only null, rbd and file can"
        ))),
    }?;
    now(client, name, result)
}

/// How large a device is, after it was asked to be larger.
fn now(client: &mut Client, name: &str, result: Value) -> Result<Answer, Trouble> {
    let devices = client.call("bdev_get_bdevs", &json!({ "name": name }))?;
    Ok(Answer::new(result, format!("{name} has {}", bytes(size(&devices[0])))))
}

fn size(device: &Value) -> u64 {
    number(&device["num_blocks"]).saturating_mul(number(&device["block_size"]))
}

fn list(result: &Value) -> String {
    let rows = items(result).iter().map(|device| {
        vec![
            cell(&device["name"]),
            cell(&device["product_name"]),
            bytes(size(device)),
            cell(&device["block_size"]),
            base(device).unwrap_or_else(|| "-".to_owned()),
            if device["claimed"] == true { "yes" } else { "no" }.to_owned(),
        ]
    });
    let none = "no devices; make one: nvmf-ctl device create malloc NAME SIZE";
    table(&["DEVICE", "TYPE", ">SIZE", ">BLOCK", "MADE OF", "IN USE"], rows.collect(), none)
}

/// The device that it is made of.
fn base(device: &Value) -> Option<String> {
    let specific = device["driver_specific"].as_object()?;
    let base = specific.values().find_map(|of| of.get("base_bdev").or_else(|| of.get("base_bdev_name")));
    base.map(cell)
}

fn show(device: &Value) -> String {
    let kinds = device["supported_io_types"].as_object();
    let kinds = kinds.into_iter().flatten().filter(|(_, value)| **value == true).map(|(name, _)| name.clone());
    let mut pairs = vec![
        ("device", cell(&device["name"])),
        ("type", cell(&device["product_name"])),
        (
            "size",
            format!(
                "{} ({} blocks of {} bytes)",
                bytes(size(device)),
                cell(&device["num_blocks"]),
                cell(&device["block_size"])
            ),
        ),
        ("in use", cell(&device["claimed"])),
        ("namespace UUID", cell(&device["uuid"])),
        ("operations", kinds.collect::<Vec<_>>().join(", ")),
        ("limits", limits::words(&device["assigned_rate_limits"])),
    ];
    if let Some(specific) = device["driver_specific"].as_object().filter(|specific| !specific.is_empty()) {
        let about: Vec<String> = specific
            .values()
            .filter_map(Value::as_object)
            .flatten()
            .map(|(name, value)| format!("{name} {}", cell(value)))
            .collect();
        pairs.push(("of its type", about.join(", ")));
    }
    facts(pairs)
}

fn stats(result: &Value) -> String {
    let rows = items(&result["bdevs"]).iter().map(|device| {
        let of = |field: &str| number(&device[field]);
        let mean = |class: &str| match of(&format!("timed_{class}_ops")) {
            0 => "-".to_owned(),
            timed => time(of(&format!("{class}_latency_ticks")) / timed),
        };
        let errors: u64 = device["io_error"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
        vec![
            cell(&device["name"]),
            count(of("num_read_ops")),
            bytes(of("bytes_read")),
            mean("read"),
            count(of("num_write_ops")),
            bytes(of("bytes_written")),
            mean("write"),
            count(of("num_flush_ops")),
            errors.to_string(),
            of("queue_depth").to_string(),
        ]
    });
    let headings =
        ["DEVICE", ">READS", ">READ", ">MEAN", ">WRITES", ">WRITTEN", ">MEAN", ">FLUSHES", ">ERRORS", ">UNDER WAY"];
    table(&headings, rows.collect(), "no devices")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_lines_with_what_they_are_made_of() {
        let result = json!([
            { "name": "m", "product_name": "Malloc disk", "block_size": 512, "num_blocks": 131_072, "claimed": true, "driver_specific": {} },
            { "name": "mp0", "product_name": "Split Disk", "block_size": 512, "num_blocks": 8, "claimed": false,
              "driver_specific": { "split": { "base_bdev": "m", "offset_blocks": 0 } } },
        ]);
        assert_eq!(
            list(&result),
            "DEVICE  TYPE           SIZE  BLOCK  MADE OF  IN USE\n\
             m       Malloc disk  64 MiB    512  -        yes\n\
             mp0     Split Disk    4 KiB    512  m        no"
        );
        assert!(show(&result[1]).contains("base_bdev m"), "{}", show(&result[1]));
    }

    #[test]
    fn what_devices_did_has_means_of_what_took_time() {
        let result = json!({ "bdevs": [{
            "name": "m", "num_read_ops": 2000, "bytes_read": 8_192_000, "timed_read_ops": 1000, "read_latency_ticks": 12_000_000,
            "num_write_ops": 1, "bytes_written": 512, "timed_write_ops": 0, "num_flush_ops": 0, "io_error": { "read_fault": 2 }, "queue_depth": 3,
        }] });
        assert_eq!(
            stats(&result),
            "DEVICE  READS     READ   MEAN  WRITES  WRITTEN  MEAN  FLUSHES  ERRORS  UNDER WAY\n\
             m         2 k  7.8 MiB  12 µs       1    512 B     -        0       2          3"
        );
    }
}
