//! Linux gives a process the use of tile registers on request, for all its threads and for good.

use core::arch::asm;

pub(super) const CAN_BE_ASKED: bool = true;

/// Asks the kernel for tile data (`XFEATURE_XTILEDATA`); whether it was granted. The kernel refuses
/// where it is told to, or where a thread's signal stack is too small for the larger frame.
pub(super) fn request() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call changes nothing but the permission; `syscall` clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}
