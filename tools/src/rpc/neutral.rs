//! Parameters of SPDK's methods that ask for what this target does not have. SPDK's own client sends them whether they were asked for or not, with the value
//! that asks for nothing: that is taken, and any other is refused.

use serde_json::Value;

/// Method (and where in its parameters), parameter, and the value that asks for nothing.
const NEUTRAL: &[(&str, &str, bool)] = &[
    ("bdev_aio_create", "nowait", false),
    ("framework_get_config", "with_batches", false),
    ("nvmf_create_subsystem", "enable_nssr", false),
    ("nvmf_create_subsystem", "passthrough", false),
    // Of TCP and of vfio-user.
    ("nvmf_create_transport", "c2h_success", true),
    ("nvmf_create_transport", "dif_insert_or_strip", false),
    ("nvmf_create_transport", "disable_adaptive_irq", false),
    ("nvmf_create_transport", "disable_mappable_bar0", false),
    ("nvmf_create_transport", "disable_shadow_doorbells", false),
    // Of RDMA.
    ("nvmf_create_transport", "disable_command_passthru", false),
    ("nvmf_create_transport", "no_wr_batching", false),
    ("nvmf_create_transport", "zcopy", false),
    ("nvmf_subsystem_add_listener", "secure_channel", false),
];

/// The only value that a parameter of SPDK's may have here. `None`: it is not one of these.
pub(super) fn of(method: &str, parameter: &str) -> Option<Value> {
    let found = NEUTRAL.iter().find(|(its_method, name, _)| *its_method == method && *name == parameter);
    found.map(|(_, _, value)| Value::Bool(*value))
}
