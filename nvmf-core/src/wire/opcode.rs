//! Opcodes.

/// Fabrics commands, on any queue; the type is in byte 4 [NVMe Base 2.0, 6].
pub const OPCODE_FABRICS: u8 = 0x7F;

/// `enum` with a byte value per variant, and its checked conversion.
macro_rules! byte_enum {
    ($(#[$attribute:meta])* $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_attribute])* $variant = $value,)*
        }

        impl $name {
            /// `None` for a value that this layer does not know.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// As on the wire.
            #[must_use]
            pub const fn to_byte(self) -> u8 {
                self as u8
            }
        }
    };
}
pub(super) use byte_enum;

byte_enum! {
    /// Admin commands [NVMe Base 2.0, figure 138].
    AdminOpcode {
        /// Not over fabrics.
        DeleteSubmissionQueue = 0x00,
        /// Not over fabrics.
        CreateSubmissionQueue = 0x01,
        /// Get Log Page.
        GetLogPage = 0x02,
        /// Not over fabrics.
        DeleteCompletionQueue = 0x04,
        /// Not over fabrics.
        CreateCompletionQueue = 0x05,
        /// Identify.
        Identify = 0x06,
        /// Abort.
        Abort = 0x08,
        /// Set Features.
        SetFeatures = 0x09,
        /// Get Features.
        GetFeatures = 0x0A,
        /// Asynchronous Event Request.
        AsyncEventRequest = 0x0C,
        /// Keep Alive.
        KeepAlive = 0x18,
    }
}

byte_enum! {
    /// I/O commands [NVM Command Set 1.0, 3; NVMe Base 2.0, 7].
    IoOpcode {
        /// Flush.
        Flush = 0x00,
        /// Write.
        Write = 0x01,
        /// Read.
        Read = 0x02,
        /// Write Uncorrectable.
        WriteUncorrectable = 0x04,
        /// Compare.
        Compare = 0x05,
        /// Write Zeroes.
        WriteZeroes = 0x08,
        /// Dataset Management.
        DatasetManagement = 0x09,
        /// Verify.
        Verify = 0x0C,
        /// Reservation Register.
        ReservationRegister = 0x0D,
        /// Reservation Report.
        ReservationReport = 0x0E,
        /// Reservation Acquire.
        ReservationAcquire = 0x11,
        /// Reservation Release.
        ReservationRelease = 0x15,
        /// Copy.
        Copy = 0x19,
    }
}

byte_enum! {
    /// Fabrics command types [NVMe Base 2.0, 6].
    FabricsType {
        /// Property Set.
        PropertySet = 0x00,
        /// Connect.
        Connect = 0x01,
        /// Property Get.
        PropertyGet = 0x04,
        /// Authentication Send.
        AuthenticationSend = 0x05,
        /// Authentication Receive.
        AuthenticationReceive = 0x06,
        /// Disconnect.
        Disconnect = 0x08,
    }
}
