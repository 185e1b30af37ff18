//! Who the host is.

/// Who the host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Host NQN.
    pub nqn: String,
    /// Host identifier. Not zero over fabrics.
    pub id: [u8; 16],
}

impl HostIdentity {
    /// The name that the specification has for a host without a name of its own: a UUID [NVMe Base 2.0, 4.5]. The identifier is that UUID.
    /// Sixteen random bytes, or better the same ones at every start: reservations and access lists go by them.
    #[must_use]
    pub fn from_uuid(bytes: [u8; 16]) -> Self {
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Self { nqn: format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid.as_hyphenated()), id: uuid.into_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Nqn;

    #[test]
    fn a_name_from_sixteen_bytes() {
        let identity = HostIdentity::from_uuid([0; 16]);
        assert_eq!(identity.nqn, "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000000");
        assert_ne!(identity.id, [0; 16]);
        assert!(Nqn::new(&identity.nqn).is_ok());
        assert_ne!(HostIdentity::from_uuid([1; 16]), identity);
    }
}
