//! `nvmf-ctl device fault …`: what goes wrong on a device of type fault.

use clap::Subcommand;
use serde_json::json;

use super::super::answer::Answer;
use super::super::client::Client;
use super::super::trouble::Trouble;
use super::super::words::said;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Has something go wrong, in the place of what was said for that kind of operation before.
    Inject {
        /// The device, such as EE_disk.
        name: String,
        /// With which operations.
        #[arg(value_parser = ["read", "write", "unmap", "flush", "all"])]
        io_type: String,
        /// What goes wrong: the target says which words there are.
        #[arg(value_name = "failure|pending|nomem|corrupt_data|lost|torn|unforced")]
        error_type: String,
        /// How often.
        #[arg(long, default_value_t = 1)]
        num: u32,
        /// With one of so many, by chance.
        #[arg(long, value_name = "COUNT")]
        one_in: Option<u32>,
        /// Only operations that touch blocks from this one on.
        #[arg(long, value_name = "BLOCK")]
        start_block: Option<u64>,
        /// So many blocks.
        #[arg(long, value_name = "COUNT")]
        num_blocks: Option<u64>,
        /// Only while a CPU has so many with the device below.
        #[arg(long, value_name = "COUNT")]
        queue_depth: Option<u64>,
        /// corrupt_data: which byte of the data.
        #[arg(long, value_name = "BYTE")]
        corrupt_offset: Option<u64>,
        /// corrupt_data: its bits that are turned over, 1 to 255.
        #[arg(long, value_name = "BITS")]
        corrupt_value: Option<u8>,
        /// pending: how long at most.
        #[arg(long, value_name = "MICROSECONDS")]
        pending_us: Option<u64>,
    },
    /// Ends all that was injected, and lets go on what it held back.
    Clear {
        /// The device, such as EE_disk.
        name: String,
    },
}

impl Command {
    pub(crate) fn perform(&self, client: &mut Client) -> Result<Answer, Trouble> {
        let (parameters, text) = match self {
            Self::Inject {
                name,
                io_type,
                error_type,
                num,
                one_in,
                start_block,
                num_blocks,
                queue_depth,
                corrupt_offset,
                corrupt_value,
                pending_us,
            } => {
                let parameters = json!({
                    "name": name,
                    "io_type": io_type,
                    "error_type": error_type,
                    "num": num,
                    "one_in": one_in,
                    "start_block": start_block,
                    "num_blocks": num_blocks,
                    "queue_depth": queue_depth,
                    "corrupt_offset": corrupt_offset,
                    "corrupt_value": corrupt_value,
                    "pending_us": pending_us,
                });
                (parameters, format!("{name}: {error_type} with {io_type}; nvmf-ctl device fault clear {name} ends it"))
            }
            Self::Clear { name } => {
                (json!({ "name": name, "io_type": "clear" }), format!("{name}: nothing goes wrong any more"))
            }
        };
        let result = client.call("bdev_error_inject_error", &said(parameters))?;
        Ok(Answer::new(result, text))
    }
}
