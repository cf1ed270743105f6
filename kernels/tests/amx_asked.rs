//! Looking for AMX changes nothing; choosing it asks Linux for tiles. Where the CPU lacks them, tools/emulate
//! has them. One test in this binary: the answer is asked for once per process.

#![cfg(all(target_arch = "x86_64", target_os = "linux", feature = "std"))]

mod tiles;

use noisyquant_kernels::isa::Isa;
use noisyquant_kernels::ready;
use noisyquant_kernels::row::MicroKernel;
use noisyquant_kernels::table;
use noisyquant_kernels::view::Elem;

#[test]
fn only_choosing_amx_asks_for_it() {
    let present = tiles::present();
    assert!(!tiles::permitted());

    assert_eq!(Isa::Amx.is_available(), present);
    assert!(!Isa::Amx.is_refused());
    assert_eq!(Isa::available().any(|isa| isa == Isa::Amx), present);
    for isa in Isa::ALL {
        // Prologues and epilogues of AMX are those of AVX-512, which needs no permission.
        let ready = ready::prologue(isa, Elem::F32).is_some();
        assert_eq!(ready, isa.base().is_available(), "{isa}");
        assert!(
            isa == Isa::Amx || isa.enable() == isa.is_available(),
            "{isa}"
        );
    }
    let (amx, others): (Vec<_>, Vec<_>) =
        table::micro_kernels().partition(|row| row.isa == Isa::Amx);
    assert!(others.into_iter().filter_map(MicroKernel::ready).count() > 0);
    assert!(!tiles::permitted(), "looking around asked for tiles");

    for row in amx {
        assert_eq!(row.ready().is_some(), present, "{}", row.name);
    }
    assert_eq!(tiles::permitted(), present);
    assert_eq!(Isa::Amx.enable(), present);
    assert_eq!(Isa::Amx.is_available(), present);
    assert!(!Isa::Amx.is_refused());
}
