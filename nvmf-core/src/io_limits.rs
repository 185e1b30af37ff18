//! What Identify says of I/O commands: which there are, how large they may be, which sizes suit the device, what is atomic.

use bdev::{Deallocation, Geometry};

use crate::limits::{BLOCK_LEN_MAX, COPY_BLOCK_COUNT_MAX, COPY_RANGE_BLOCK_COUNT_MAX, COPY_RANGE_COUNT_MAX};
use crate::subsystem::Subsystem;
use crate::wire::identify::{IdentifyController, IdentifyNamespace};
use crate::wire::{U16, U32};

/// The controller's commands. The limits of the command set's own page (VSL, WZSL, WUSL, DMRL, DMRSL, DMSL) are all 0, none: what is not a transfer is
/// worked off in pieces, however large.
pub(crate) fn describe_controller(page: &mut IdentifyController, subsystem: &Subsystem, transfer_len_max: u32) {
    let mut commands = IdentifyController::ONCS_COMPARE
        | IdentifyController::ONCS_DATASET_MANAGEMENT
        | IdentifyController::ONCS_WRITE_ZEROES
        | IdentifyController::ONCS_VERIFY
        | IdentifyController::ONCS_COPY;
    if subsystem.active_namespaces().any(|namespace| namespace.geometry.writes_uncorrectable) {
        commands |= IdentifyController::ONCS_WRITE_UNCORRECTABLE;
    }
    page.oncs = U16::new(page.oncs.get() | commands);
    page.copy_formats = U16::new(IdentifyController::COPY_FORMAT_0);
    // A lock is known to one target; what other targets offer too cannot be locked.
    if !subsystem.is_shared {
        page.fuses = U16::new(IdentifyController::FUSES_COMPARE_AND_WRITE);
        // Any transfer; counted in the largest blocks, since it holds for every namespace.
        let unit = transfer_len_max / BLOCK_LEN_MAX;
        page.acwu_zero_based = U16::new(u16::try_from(unit.saturating_sub(1)).unwrap_or(u16::MAX));
    }
    // AWUN and AWUPF stay 0, one block: each namespace says more where its device does.
}

/// A namespace's device.
pub(crate) fn describe_namespace(page: &mut IdentifyNamespace, geometry: &Geometry) {
    let zero_based = |count: u32| U16::new(u16::try_from(count.saturating_sub(1)).unwrap_or(u16::MAX));
    let reads_zero = match geometry.deallocation {
        Deallocation::Zeroes => IdentifyNamespace::DLFEAT_READ_ZERO,
        Deallocation::Unsupported | Deallocation::Unspecified => 0,
    };
    page.dlfeat = reads_zero | IdentifyNamespace::DLFEAT_WRITE_ZEROES_DEALLOCATE;
    let (preferred, atomic) = (geometry.preferred, geometry.atomic);
    page.nsfeat |= IdentifyNamespace::NSFEAT_PREFERRED | IdentifyNamespace::NSFEAT_ATOMIC;
    page.noiob = U16::new(u16::try_from(preferred.boundary).unwrap_or(0));
    page.npwg_zero_based = zero_based(preferred.write);
    page.npwa_zero_based = page.npwg_zero_based;
    page.npdg_zero_based = zero_based(preferred.deallocate);
    page.npda_zero_based = page.npdg_zero_based;
    page.nows_zero_based = zero_based(preferred.write_optimal);
    page.nawun_zero_based = zero_based(atomic.write);
    page.nawupf_zero_based = zero_based(atomic.power_fail);
    page.mssrl = U16::new(COPY_RANGE_BLOCK_COUNT_MAX);
    page.mcl = U32::new(COPY_BLOCK_COUNT_MAX);
    page.msrc_zero_based = (COPY_RANGE_COUNT_MAX - 1).to_le_bytes()[0];
}

#[cfg(test)]
mod tests {
    use bdev::{Atomic, Preferred};
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn sizes_are_zero_based_but_for_the_boundary() {
        let geometry = Geometry {
            deallocation: Deallocation::Zeroes,
            preferred: Preferred { boundary: 256, write: 8, write_optimal: 64, deallocate: 16 },
            atomic: Atomic { write: 4, power_fail: 2 },
            ..Geometry::plain(512, 1000, 512)
        };
        let mut page = IdentifyNamespace::new_zeroed();
        describe_namespace(&mut page, &geometry);
        assert_eq!((page.noiob.get(), page.npwg_zero_based.get(), page.npwa_zero_based.get()), (256, 7, 7));
        assert_eq!((page.npdg_zero_based.get(), page.npda_zero_based.get(), page.nows_zero_based.get()), (15, 15, 63));
        assert_eq!((page.nawun_zero_based.get(), page.nawupf_zero_based.get()), (3, 1));
        assert_eq!((page.msrc_zero_based, page.mssrl.get(), page.mcl.get()), (127, 1 << 15, 1 << 17));
        assert_eq!((page.dlfeat, page.nsfeat), (0b1001, 0b1_0010));
        describe_namespace(&mut page, &Geometry { deallocation: Deallocation::Unspecified, ..geometry });
        assert_eq!(page.dlfeat, 0b1000);
    }
}
