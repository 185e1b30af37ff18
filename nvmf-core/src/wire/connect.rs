//! What goes with a Connect command: its 1024 bytes of data, and its response [NVMe Base 2.0, 6.3].

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::nqn::{Nqn, NqnError};
use crate::status::Status;

/// CNTLID that asks for a new controller of the dynamic model.
pub const DYNAMIC_CONTROLLER_ID: u16 = 0xFFFF;
/// CNTLID that asks for any controller of the static model.
pub const ANY_STATIC_CONTROLLER_ID: u16 = 0xFFFE;

/// Raw: 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// HOSTID.
    pub host_id: [u8; 16],
    /// CNTLID.
    pub controller_id: U16,
    reserved_18: [u8; 238],
    /// SUBNQN.
    pub subsystem_nqn: [u8; 256],
    /// HOSTNQN.
    pub host_nqn: [u8; 256],
    reserved_768: [u8; 256],
}

/// Parsed: names are legal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectParameters {
    /// Who connects: 128 bits.
    pub host_id: [u8; 16],
    /// Which controller, or [`DYNAMIC_CONTROLLER_ID`], or [`ANY_STATIC_CONTROLLER_ID`].
    pub controller_id: u16,
    /// To which subsystem.
    pub subsystem_nqn: Nqn,
    /// Who connects: a name.
    pub host_nqn: Nqn,
}

/// Why Connect's data is wrong. Each ends in *Connect Invalid Parameters*, whose result says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectDataError {
    /// It is shorter than its 1024 bytes.
    #[error("Connect data has {len} bytes of 1024")]
    Length {
        /// How many there are.
        len: usize,
    },
    /// The host's identifier is zero, which no host may have over fabrics.
    #[error("host identifier is zero")]
    HostId,
    /// SUBNQN.
    #[error("subsystem NQN: {0}")]
    SubsystemNqn(NqnError),
    /// HOSTNQN.
    #[error("host NQN: {0}")]
    HostNqn(NqnError),
}

impl ConnectData {
    /// Bytes of it.
    pub const LEN: u32 = 1024;

    /// Checks all of it.
    ///
    /// # Errors
    /// [`ConnectDataError`] for the first field that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<ConnectParameters, ConnectDataError> {
        let (data, _) = Self::ref_from_prefix(bytes).map_err(|_| ConnectDataError::Length { len: bytes.len() })?;
        if data.host_id == [0; 16] {
            return Err(ConnectDataError::HostId);
        }
        Ok(ConnectParameters {
            host_id: data.host_id,
            controller_id: data.controller_id.get(),
            subsystem_nqn: Nqn::from_field(&data.subsystem_nqn).map_err(ConnectDataError::SubsystemNqn)?,
            host_nqn: Nqn::from_field(&data.host_nqn).map_err(ConnectDataError::HostNqn)?,
        })
    }
}

impl From<&ConnectParameters> for ConnectData {
    fn from(parameters: &ConnectParameters) -> Self {
        let mut data = Self::new_zeroed();
        data.host_id = parameters.host_id;
        data.controller_id = U16::new(parameters.controller_id);
        data.subsystem_nqn = parameters.subsystem_nqn.to_field();
        data.host_nqn = parameters.host_nqn.to_field();
        data
    }
}

/// Which parameter a Connect was refused for: the result of *Connect Invalid Parameters*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectRefusal {
    /// IATTR bit 0: the offset is into the data rather than into the 64 bytes.
    pub in_data: bool,
    /// IPO: bytes.
    pub offset: u16,
}

impl ConnectRefusal {
    /// RECFMT.
    pub const RECORD_FORMAT: Self = Self { in_data: false, offset: 40 };
    /// QID.
    pub const QUEUE_ID: Self = Self { in_data: false, offset: 42 };
    /// SQSIZE.
    pub const QUEUE_SIZE: Self = Self { in_data: false, offset: 44 };
    /// CATTR.
    pub const ATTRIBUTES: Self = Self { in_data: false, offset: 46 };
    /// KATO.
    pub const KEEP_ALIVE: Self = Self { in_data: false, offset: 48 };
    /// HOSTID.
    pub const HOST_ID: Self = Self { in_data: true, offset: 0 };
    /// CNTLID.
    pub const CONTROLLER_ID: Self = Self { in_data: true, offset: 16 };
    /// SUBNQN.
    pub const SUBSYSTEM_NQN: Self = Self { in_data: true, offset: 256 };
    /// HOSTNQN.
    pub const HOST_NQN: Self = Self { in_data: true, offset: 512 };

    /// The result of the response.
    #[must_use]
    pub const fn to_result(self) -> u64 {
        self.offset as u64 | (self.in_data as u64) << 16
    }

    /// From a response's result.
    #[must_use]
    pub const fn from_result(result: u64) -> Self {
        let [low, high, attributes, ..] = result.to_le_bytes();
        Self { in_data: attributes & 1 != 0, offset: u16::from_le_bytes([low, high]) }
    }

    /// The field in words.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match (self.in_data, self.offset) {
            (false, 40) => "record format",
            (false, 42) => "queue id",
            (false, 44) => "queue size",
            (false, 46) => "attributes",
            (false, 48) => "keep alive timeout",
            (true, 0) => "host identifier",
            (true, 16) => "controller id",
            (true, 256) => "subsystem NQN",
            (true, 512) => "host NQN",
            _ => "unknown field",
        }
    }
}

impl ConnectDataError {
    /// Always *Connect Invalid Parameters*.
    #[must_use]
    pub const fn status(self) -> Status {
        Status::CONNECT_INVALID_PARAMETERS
    }

    /// Which parameter.
    #[must_use]
    pub const fn refusal(self) -> ConnectRefusal {
        match self {
            Self::Length { .. } | Self::HostId => ConnectRefusal::HOST_ID,
            Self::SubsystemNqn(_) => ConnectRefusal::SUBSYSTEM_NQN,
            Self::HostNqn(_) => ConnectRefusal::HOST_NQN,
        }
    }
}

/// The result of a Connect that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectResult {
    /// CNTLID.
    pub controller_id: u16,
    /// AUTHREQ: not zero if the host has to authenticate first.
    pub authentication: u16,
}

impl ConnectResult {
    /// AUTHREQ, ATR: a transaction of authentication is required on this queue.
    pub const AUTHENTICATION_TRANSACTION: u16 = 1 << 1;
    /// AUTHREQ, ASCR: and a secure channel after it.
    pub const AUTHENTICATION_CHANNEL: u16 = 1 << 2;

    /// The result of the response.
    #[must_use]
    pub const fn to_result(self) -> u64 {
        self.controller_id as u64 | (self.authentication as u64) << 16
    }

    /// From a response's result.
    #[must_use]
    pub const fn from_result(result: u64) -> Self {
        let [a, b, c, d, ..] = result.to_le_bytes();
        Self { controller_id: u16::from_le_bytes([a, b]), authentication: u16::from_le_bytes([c, d]) }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use proptest::prelude::*;

    use super::*;

    fn parameters() -> ConnectParameters {
        ConnectParameters {
            host_id: *b"0123456789abcdef",
            controller_id: DYNAMIC_CONTROLLER_ID,
            subsystem_nqn: Nqn::new("nqn.2016-06.io.quiesce:one").unwrap(),
            host_nqn: Nqn::new("nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6").unwrap(),
        }
    }

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<ConnectData>(), 1024);
        assert_eq!(offset_of!(ConnectData, controller_id), 16);
        assert_eq!(offset_of!(ConnectData, subsystem_nqn), 256);
        assert_eq!(offset_of!(ConnectData, host_nqn), 512);
    }

    #[test]
    fn real_bytes_and_back() {
        let data = ConnectData::from(&parameters());
        let bytes = data.as_bytes();
        assert_eq!(&bytes[..16], b"0123456789abcdef");
        assert_eq!(&bytes[16..18], &[0xFF, 0xFF]);
        assert!(bytes[18..256].iter().all(|byte| *byte == 0));
        assert_eq!(&bytes[256..283], b"nqn.2016-06.io.quiesce:one\0");
        assert_eq!(&bytes[512..516], b"nqn.");
        assert_eq!(ConnectData::parse(bytes), Ok(parameters()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let good = ConnectData::from(&parameters());
        assert_eq!(ConnectData::parse(&good.as_bytes()[..1023]).unwrap_err(), ConnectDataError::Length { len: 1023 });
        let mut data = good.clone();
        data.host_id = [0; 16];
        assert_eq!(ConnectData::parse(data.as_bytes()).unwrap_err().refusal(), ConnectRefusal::HOST_ID);
        let mut data = good.clone();
        data.subsystem_nqn = [b'x'; 256];
        let error = ConnectData::parse(data.as_bytes()).unwrap_err();
        assert_eq!(error, ConnectDataError::SubsystemNqn(NqnError::Length));
        assert_eq!(error.refusal().to_result(), 0x0001_0100);
        assert_eq!(error.status(), Status::CONNECT_INVALID_PARAMETERS);
        let mut data = good;
        data.host_nqn[0] = b'x';
        let error = ConnectData::parse(data.as_bytes()).unwrap_err();
        assert_eq!(error, ConnectDataError::HostNqn(NqnError::Prefix));
        assert_eq!(ConnectRefusal::from_result(error.refusal().to_result()).field(), "host NQN");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let _ = ConnectData::parse(&bytes);
        }

        #[test]
        fn results_round_trip(controller_id: u16, authentication: u16, in_data: bool, offset: u16) {
            let result = ConnectResult { controller_id, authentication };
            prop_assert_eq!(ConnectResult::from_result(result.to_result()), result);
            let refusal = ConnectRefusal { in_data, offset };
            prop_assert_eq!(ConnectRefusal::from_result(refusal.to_result()), refusal);
        }
    }
}
