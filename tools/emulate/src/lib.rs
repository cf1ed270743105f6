//! Runs a program as if the CPU had AVX-VNNI and AMX-INT8, on Linux:
//!
//! ```text
//! cargo build --release --manifest-path tools/emulate/Cargo.toml --target-dir target/emulate
//! LD_PRELOAD=target/emulate/release/libemulate.so program
//! ```
//!
//! The kernels of these sets are then tested on machines that lack them, as those for Arm are in qemu,
//! which knows neither. What the CPU has runs as it is. An instruction that it lacks ends in `SIGILL`,
//! whose handler carries it out and goes on behind it: slow (a microsecond or two each), but exact, and
//! a read or write outside of mapped memory is the fault that it would be. `cpuid` and `xgetbv`, which
//! cannot be caught, are replaced in the program's text by `ud2`, and their answers changed. A filter on
//! system calls turns the questions about the permission for tile data into signals, too: it is given to who
//! asks for it, unless the thread's signal stack is too small.
//!
//! Instructions follow Intel's manual (volume 2, "Operation" of each). There are only those that the
//! kernels use; any other, and what breaks the manual's rules for tiles, is `SIGILL` for good. AMX is of
//! use only where the CPU has the AVX-512 that the kernels use beside it. Does nothing on a CPU that has
//! both sets.

mod disguise;
mod machine;
mod tiles;

use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::slice;

use disguise::Question;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use machine::Machine;
use tiles::Tiles;

/// Bits of `cpuid` and `xgetbv` that say what is emulated.
const AVX_VNNI: u32 = 1 << 4; // leaf 7, subleaf 1, eax
const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25; // leaf 7, subleaf 0, edx
const TILE_STATE: u64 = 1 << 17 | 1 << 18; // xcr0

thread_local! {
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles::EMPTY) };
}

/// Run by the loader before the program.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let features = |subleaf| __cpuid_count(7, subleaf);
    let has_amx = features(0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8
        // SAFETY: a CPU with AMX has `xgetbv`, and Linux enables it for the sake of AVX.
        && unsafe { _xgetbv(0) } & TILE_STATE == TILE_STATE;
    if has_amx && features(1).eax & AVX_VNNI != 0 {
        return;
    }
    decode(&[0x90], 0); // fills the decoder's tables: the handler must not allocate
    catch(libc::SIGSYS, on_question);
    disguise::trap_permissions();
    disguise::replace_questions();
    catch(libc::SIGILL, on_illegal);
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn catch(signal: c_int, handler: Handler) {
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let result = libc::sigaction(signal, &action, std::ptr::null_mut());
        assert_eq!(result, 0);
    }
}

fn decode(code: &[u8], address: u64) -> Instruction {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode()
}

/// A question about permissions, behind whose `syscall` the program goes on.
extern "C" fn on_question(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: Linux passes the context of the interrupted thread, and nothing else refers to it.
    let mut machine = unsafe { Machine::new(context.cast()) };
    let [question, argument] = machine.arguments();
    machine.set_result(disguise::permission(question, argument));
}

extern "C" fn on_illegal(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: Linux passes the context of the interrupted thread, and nothing else refers to it.
    let mut machine = unsafe { Machine::new(context.cast()) };
    let address = machine.instruction_pointer();
    if let Some(question) = disguise::replaced(address) {
        answer(question, &mut machine);
        return machine.skip(question.length());
    }
    // Those that follow as well, if they are ours: a signal costs more than they do.
    while execute(&mut machine).is_some() {}
    if machine.instruction_pointer() == address {
        // SAFETY: the instruction raises the signal again, which ends the process.
        unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
    }
}

/// What the CPU says of itself, and that it has the emulated sets.
fn answer(question: Question, machine: &mut Machine) {
    match question {
        Question::Cpuid => {
            let (leaf, subleaf) = (machine.eax(), machine.ecx());
            let mut says = __cpuid_count(leaf, subleaf);
            match (leaf, subleaf) {
                (7, 0) => {
                    says.eax = says.eax.max(1); // subleaf 1 exists
                    says.edx |= AMX_TILE_AND_INT8;
                }
                (7, 1) => says.eax |= AVX_VNNI,
                _ => {}
            }
            machine.set_cpuid(says);
        }
        Question::Xgetbv => {
            // SAFETY: the program is about to do the same.
            let says = unsafe { _xgetbv(machine.ecx()) };
            machine.set_xgetbv(says | TILE_STATE);
        }
    }
}

/// Carries out the next instruction; `None` if it is not one of ours, or a fault.
fn execute(machine: &mut Machine) -> Option<()> {
    let address = machine.instruction_pointer();
    // SAFETY: mapped, for the CPU runs it. Fifteen bytes, the longest instruction, may pass the end of
    // the text, but not of its last page: `.fini` is there.
    let code = unsafe { slice::from_raw_parts(address as *const u8, 15) };
    let instruction = decode(code, address);
    let register = |operand| instruction.op_register(operand).number();
    TILES.with_borrow_mut(|tiles| match instruction.code() {
        Code::VEX_Vpdpbusd_ymm_ymm_ymmm256 => {
            let [sums, unsigned] = [0, 1].map(|operand| machine.ymm(register(operand)));
            let signed = machine.ymm_or_memory(&instruction, 2)?;
            machine.set_ymm(register(0), vpdpbusd(sums, unsigned, signed));
            Some(())
        }
        Code::VEX_Ldtilecfg_m512 => {
            tiles.configure(&machine.read(machine.address(&instruction, 0)?))
        }
        Code::VEX_Tilerelease => {
            *tiles = Tiles::EMPTY;
            Some(())
        }
        Code::VEX_Tilezero_tmm => tiles.zero(register(0)),
        Code::VEX_Tileloadd_tmm_sibmem | Code::VEX_Tileloaddt1_tmm_sibmem => {
            let (base, stride) = machine.base_and_stride(&instruction)?;
            // SAFETY: what the program may not read is a fault, as it is without us.
            tiles.load(register(0), |row, to| unsafe {
                let from = base.wrapping_add(stride.wrapping_mul(row as u64)) as *const u8;
                from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
            })
        }
        Code::VEX_Tilestored_sibmem_tmm => {
            let (base, stride) = machine.base_and_stride(&instruction)?;
            // SAFETY: what the program may not write is a fault, too.
            tiles.store(register(1), |row, from| unsafe {
                let to = base.wrapping_add(stride.wrapping_mul(row as u64)) as *mut u8;
                to.copy_from_nonoverlapping(from.as_ptr(), from.len());
            })
        }
        Code::VEX_Tdpbusd_tmm_tmm_tmm => tiles.tdpbusd(register(0), register(1), register(2)),
        _ => None,
    })?;
    machine.skip(instruction.len());
    Some(())
}

/// Adds the products of four unsigned and four signed bytes to each 32-bit sum.
fn vpdpbusd(mut sums: [u8; 32], unsigned: [u8; 32], signed: [u8; 32]) -> [u8; 32] {
    let bytes = unsigned.as_chunks().0.iter().zip(signed.as_chunks().0);
    for (sum, (unsigned, signed)) in sums.as_chunks_mut().0.iter_mut().zip(bytes) {
        *sum = dot(*sum, *unsigned, *signed);
    }
    sums
}

fn dot(sum: [u8; 4], unsigned: [u8; 4], signed: [u8; 4]) -> [u8; 4] {
    (0..4)
        .map(|i| i32::from(unsigned[i]) * i32::from(signed[i] as i8))
        .fold(i32::from_le_bytes(sum), i32::wrapping_add)
        .to_le_bytes()
}
