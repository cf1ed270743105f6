//! The leaves of `noisyquant`: hand-written integer SIMD kernels, the table that lists them, and the
//! scalar specification that they all equal bit for bit.
//!
//! This package allocates nothing, starts no threads and reads no environment. It has all `unsafe` of the
//! library: the *leaf*, an `unsafe fn` written for one instruction set; the *checked call* in [`ready`],
//! which asserts lengths, holds a proof that the CPU has the instructions, and then calls the leaf; the
//! memory behind a [`view`]; and the questions that [`cpu`] asks of the CPU and of Linux.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`isa`] | names of instruction sets |
//! | [`layout`] | geometry of codes and packed weights |
//! | [`spec`] | the numerics contract as plain scalar Rust: the definition, not a fallback |
//! | [`view`] | strided matrix views over f32, f16 and bf16 |
//! | [`output`] | where outputs go, and what becomes of them on the way |
//! | [`row`] | what the table says of a kernel |
//! | [`table`] | one row per kernel |
//! | [`cpu`] | which instruction sets the CPU at hand has, and the size of its cache |
//! | [`ready`] | rows that the CPU at hand can run: the only way to call a kernel |
//!
//! A module imports from those above it alone. Between [`output`] and [`row`] stand the argument structs of
//! leaves, and between [`row`] and [`table`] the leaves of each architecture.
//!
//! # Example
//!
//! The sums of one row of codes with a panel of weights, on the last kernel of the table that runs here and
//! reads codes of a byte. (Making rows ready chooses them: where there is AMX, Linux is asked for it.)
//!
//! ```
//! use noisyquant_kernels::layout::padded_k;
//! use noisyquant_kernels::ready::{Codes, Panels};
//! use noisyquant_kernels::row::MicroKernel;
//! use noisyquant_kernels::table;
//!
//! #[repr(align(64))]
//! struct Aligned<T>(T);
//!
//! // Three output channels of five inputs. The most channels that a panel of the table holds are 32.
//! let weights: [i8; 15] = [1, -2, 3, -4, 5, 0, 0, 7, 0, 0, -127, 127, 1, 1, 1];
//! let (n, k) = (3, 5);
//! let mut panel = Aligned([0i8; 32 * 64]);
//! let mut sums = Aligned([0i32; 32]);
//!
//! let fits = |row: &&MicroKernel| row.is_exact_for(255, 127) && row.tile.nr >= n && row.code_bytes() == 1;
//! let kernel = (table::micro_kernels().filter(fits).filter_map(MicroKernel::ready).last())
//!     .expect("a scalar row, at least");
//! let layout = kernel.panel();
//! let panel = &mut panel.0[..layout.panel_bytes(k)];
//! layout.pack(&weights, k, n, k, panel);
//!
//! let mut codes = [0u8; 64];
//! for (stored, code) in codes.iter_mut().zip([10, 20, 30, 40, 255]) {
//!     *stored = u8::wrapping_sub(code, kernel.code_offset);
//! }
//! let codes = Codes {
//!     bytes: &codes,
//!     stride: 64,
//!     rows: 1,
//!     k: padded_k(k),
//!     max: 255,
//! };
//! let panels = Panels {
//!     bytes: panel,
//!     corrections: &[],
//!     max: 127,
//! };
//! kernel.run(codes, panels, &mut sums.0);
//!
//! // Where codes are stored less an offset, so are the sums.
//! let channel = |n: usize| weights[n * k..].iter().take(k).map(|w| i32::from(*w)).sum::<i32>();
//! let sum = |n: usize| sums.0[n] + i32::from(kernel.code_offset) * channel(n);
//! assert_eq!([sum(0), sum(1), sum(2)], [1175, 210, 1595]);
//! ```
//!
//! # Features
//!
//! - `std`, on by default: instruction sets are detected at run time. Without it the crate is `no_std`, and a
//!   set is available if the crate is compiled for CPUs that have it.
//! - `probe`: `Ready::<MicroKernel>::probe`, with which benches measure the peak of a kernel's instructions.

#![cfg_attr(not(any(feature = "std", test)), no_std)]

mod cells;
pub mod codes;
pub mod isa;
pub mod layout;
pub mod output;
pub mod spec;
pub mod view;

mod lanes;
mod leaf;
pub mod row;
mod strassen;

mod scalar;

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
#[path = "x86/mod.rs"]
mod arch;
#[cfg(all(
    target_arch = "aarch64",
    target_endian = "little",
    target_feature = "neon"
))]
#[path = "aarch64/mod.rs"]
mod arch;
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    all(
        target_arch = "aarch64",
        target_endian = "little",
        target_feature = "neon"
    )
)))]
#[path = "portable.rs"]
mod arch;

pub mod cpu;
#[cfg(feature = "probe")]
mod probe;
pub mod ready;
pub mod table;
