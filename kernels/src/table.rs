//! The kernel table: one row per kernel.
//!
//! Rows are data and list kernels for the whole target architecture, whatever the CPU at hand has; see
//! [`ready`](crate::ready) for how one is called. Tests, benches, fuzz targets and the layer's choice of
//! kernel iterate the table, so a new row needs no edit anywhere else.

use crate::arch;
use crate::row::{Absmax, Epilogue, MicroKernel, Norm, Prologue};
use crate::scalar;

/// All micro-kernels of this target, the scalar rows first.
pub fn micro_kernels() -> impl Iterator<Item = &'static MicroKernel> {
    scalar::MICRO_KERNELS.iter().chain(arch::MICRO_KERNELS)
}

/// All prologues of this target.
pub fn prologues() -> impl Iterator<Item = &'static Prologue> {
    scalar::PROLOGUES.iter().chain(arch::PROLOGUES)
}

/// All norms of this target.
pub fn norms() -> impl Iterator<Item = &'static Norm> {
    scalar::NORMS.iter().chain(arch::NORMS)
}

/// All leaves of largest magnitudes of this target.
pub fn absmaxes() -> impl Iterator<Item = &'static Absmax> {
    scalar::ABSMAXES.iter().chain(arch::ABSMAXES)
}

/// All epilogues of this target.
pub fn epilogues() -> impl Iterator<Item = &'static Epilogue> {
    scalar::EPILOGUES.iter().chain(arch::EPILOGUES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Form, Tile};
    use crate::output::Destination;
    use crate::view::Elem;

    #[test]
    fn names_follow_the_grammar_and_are_unique() {
        let mut names: Vec<&str> = Vec::new();
        for row in micro_kernels() {
            let Tile { mr, nr, kr } = row.tile;
            let prefix = format!("{}_u", row.isa);
            let dense = format!("d{}", row.form.bits());
            assert_eq!(
                row.name.contains(&dense),
                row.form != Form::Bytes,
                "{}",
                row.name
            );
            let suffix = format!("_{mr}x{nr}x{kr}");
            assert!(row.name.starts_with(&prefix), "{}", row.name);
            assert!(row.name.ends_with(&suffix), "{}", row.name);
            names.push(row.name);
        }
        for row in epilogues() {
            let name = format!("{}_i32_{}", row.isa, row.destination.name());
            assert_eq!(row.name, name);
        }
        for row in norms() {
            assert_eq!(row.name, format!("{}_norm", row.isa));
        }
        names.extend(norms().map(|row| row.name));
        names.extend(prologues().map(|row| row.name));
        names.extend(absmaxes().map(|row| row.name));
        names.extend(epilogues().map(|row| row.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_isa_with_micro_kernels_has_the_other_leaves() {
        for row in micro_kernels() {
            let isa = row.isa.base();
            assert!(norms().any(|n| n.isa == isa));
            for elem in Elem::ALL {
                assert!(prologues().any(|p| p.isa == isa && p.source == elem));
                assert!(absmaxes().any(|a| a.isa == isa && a.source == elem));
            }
            for destination in Destination::ALL {
                assert!(epilogues().any(|e| e.isa == isa && e.destination == destination));
            }
        }
    }

    /// So that making them ready asks for no permission.
    #[test]
    fn the_other_leaves_are_of_base_sets() {
        assert!(prologues().all(|row| row.isa == row.isa.base()));
        assert!(norms().all(|row| row.isa == row.isa.base()));
        assert!(absmaxes().all(|row| row.isa == row.isa.base()));
        assert!(epilogues().all(|row| row.isa == row.isa.base()));
    }
}
