//! What a controller supports, told by log pages: which pages, commands and features there are, and what they act on [NVMe Base 2.0, 5.16.1.1, 5.16.1.6,
//! 5.16.1.18, 5.16.1.19].

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Supported Log Pages: 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SupportedLogs {
    /// By log page identifier.
    pub pages: [U32; 256],
}

impl SupportedLogs {
    /// LSUPP.
    pub const SUPPORTED: u32 = 1;

    /// Of the identifiers of the pages that there are. None of them takes an index as its offset (IOS 0).
    #[must_use]
    pub fn new(is_supported: impl Fn(u8) -> bool) -> Self {
        let mut log = Self::new_zeroed();
        for (page, place) in (0..=u8::MAX).zip(&mut log.pages) {
            place.set(if is_supported(page) { Self::SUPPORTED } else { 0 });
        }
        log
    }
}

/// Commands Supported and Effects: 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EffectsLog {
    /// By admin opcode.
    pub admin: [U32; 256],
    /// By I/O opcode.
    pub io: [U32; 256],
    reserved_2048: [u8; 2048],
}

impl EffectsLog {
    /// Of what each opcode does; `None` where there is no such command.
    #[must_use]
    pub fn new(admin: impl Fn(u8) -> Option<CommandEffects>, io: impl Fn(u8) -> Option<CommandEffects>) -> Self {
        let mut log = Self::new_zeroed();
        for (opcode, (admin_place, io_place)) in (0..=u8::MAX).zip(log.admin.iter_mut().zip(&mut log.io)) {
            admin_place.set(admin(opcode).map_or(0, |effects| effects.0));
            io_place.set(io(opcode).map_or(0, |effects| effects.0));
        }
        log
    }
}

/// What a command does, and on what it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEffects(u32);

impl CommandEffects {
    /// CSUPP, without any effect or scope.
    pub const SUPPORTED: Self = Self(1);

    /// LBCC: it changes the contents of blocks.
    #[must_use]
    pub const fn changes_blocks(self) -> Self {
        Self(self.0 | 1 << 1)
    }

    /// CCC: it may change what the controller can do.
    #[must_use]
    pub const fn changes_controller(self) -> Self {
        Self(self.0 | 1 << 4)
    }

    /// CSP bit 0: it acts on a namespace.
    #[must_use]
    pub const fn on_namespace(self) -> Self {
        Self(self.0 | 1 << 20)
    }

    /// CSP bit 1: it acts on the controller.
    #[must_use]
    pub const fn on_controller(self) -> Self {
        Self(self.0 | 1 << 21)
    }

    /// CSP bit 5: it acts on the NVM subsystem.
    #[must_use]
    pub const fn on_subsystem(self) -> Self {
        Self(self.0 | 1 << 25)
    }
}

/// Feature Identifiers Supported and Effects: 1024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FeatureEffectsLog {
    /// By feature identifier.
    pub features: [U32; 256],
}

impl FeatureEffectsLog {
    /// Of what each feature does; `None` where there is no such feature.
    #[must_use]
    pub fn new(effects: impl Fn(u8) -> Option<FeatureEffects>) -> Self {
        let mut log = Self::new_zeroed();
        for (feature, place) in (0..=u8::MAX).zip(&mut log.features) {
            place.set(effects(feature).map_or(0, |effects| effects.0));
        }
        log
    }
}

/// What setting a feature does, and on what it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureEffects(u32);

impl FeatureEffects {
    /// FSUPP, and the scope of each namespace (FSP bit 0).
    pub const PER_NAMESPACE: Self = Self(1 | 1 << 20);
    /// FSUPP, and the scope of the controller (FSP bit 1).
    pub const PER_CONTROLLER: Self = Self(1 | 1 << 21);

    /// CCC: setting it may change what the controller can do.
    #[must_use]
    pub const fn changes_controller(self) -> Self {
        Self(self.0 | 1 << 4)
    }
}

/// NVMe-MI Commands Supported and Effects: 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ManagementEffectsLog {
    /// By management opcode.
    pub commands: [U32; 256],
    reserved_1024: [u8; 3072],
}

impl ManagementEffectsLog {
    /// A controller without NVMe-MI Send and Receive has none of their commands.
    #[must_use]
    pub fn none() -> Self {
        Self::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn places_are_the_specifications() {
        assert_eq!(size_of::<SupportedLogs>(), 1024);
        assert_eq!(size_of::<EffectsLog>(), 4096);
        assert_eq!(offset_of!(EffectsLog, io), 1024);
        assert_eq!(size_of::<FeatureEffectsLog>(), 1024);
        assert_eq!(size_of::<ManagementEffectsLog>(), 4096);
    }

    #[test]
    fn real_values() {
        let write = CommandEffects::SUPPORTED.changes_blocks().on_namespace();
        let log = EffectsLog::new(|_| None, |opcode| (opcode == 1).then_some(write));
        assert_eq!(log.io[..3], [U32::new(0), U32::new(0x0010_0003), U32::new(0)]);
        assert_eq!(log.admin, [U32::new(0); 256]);
        let log = FeatureEffectsLog::new(|feature| (feature == 5).then_some(FeatureEffects::PER_NAMESPACE));
        assert_eq!(log.features[4..6], [U32::new(0), U32::new(0x0010_0001)]);
        assert_eq!(SupportedLogs::new(|page| page == 0xFF).pages[255], U32::new(1));
    }
}
