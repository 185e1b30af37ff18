//! What poll groups and the control plane send each other. Opaque to transports, which carry it inside their own message.

/// One message of this layer.
#[derive(Debug)]
pub enum Message {}
