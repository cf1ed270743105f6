//! Plain loops, compiled once per instruction set by `pulp` and chosen at run time.

/// Run `step` with the widest vectors of this CPU; it must be `#[inline(always)]` to be compiled for
/// them.
#[inline(always)]
pub(super) fn vectorised<R>(step: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(step)
}
