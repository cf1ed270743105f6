//! A process that Linux refuses the use of AMX tiles: once asked for, the set is not available, and says why.
//!
//! The kernel refuses while a thread has a signal stack too small for the larger frame. One test in
//! this binary: the answer is asked for once per process.

#![cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]

mod tiles;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;

#[test]
fn a_refused_set_is_not_available_and_says_so() {
    let mut memory = vec![0u8; 4096];
    let stack = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: `memory` outlives the test; no signal is raised on this thread.
    let result = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    assert_eq!(result, 0);

    let present = tiles::present();
    assert_eq!(Isa::Amx.is_available(), present);
    assert!(!Isa::Amx.is_refused(), "not asked for");

    let rows = table::micro_kernels().filter(|row| row.isa == Isa::Amx);
    assert_eq!(rows.filter_map(MicroKernel::ready).count(), 0);
    assert!(!Isa::Amx.enable());
    assert!(!Isa::Amx.is_available());
    assert!(Isa::available().all(|isa| isa != Isa::Amx));
    assert_eq!(Isa::Amx.is_refused(), present);
    assert!(!tiles::permitted());

    let none = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    // SAFETY: the thread has no signal stack from here on.
    let result = unsafe { libc::sigaltstack(&none, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}
