//! What Linux says of AMX tiles, asked without the crate.

use noisyquant_kernels::isa::Isa;

/// Whether the crate must find AMX: as `NOISYQUANT_EXPECT_ISAS` says under an emulator, which shows the
/// cpuinfo of its host, or else as the Linux kernel does.
pub fn present() -> bool {
    match std::env::var("NOISYQUANT_EXPECT_ISAS") {
        Ok(names) => names.split_whitespace().any(|name| name == "amx"),
        Err(_) => {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
            Isa::Avx512Vnni.is_available() && cpuinfo.contains(" amx_int8")
        }
    }
}

/// Whether this process has the permission to use tile data.
pub fn permitted() -> bool {
    const ARCH_GET_XCOMP_PERM: libc::c_long = 0x1022;
    const TILE_DATA: u64 = 1 << 18;
    let mut features = 0u64;
    // SAFETY: writes the 64 bits of `features`, or fails on a kernel that does not know the question.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &mut features) };
    result == 0 && features & TILE_DATA != 0
}
