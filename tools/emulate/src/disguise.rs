//! What makes a program believe that the CPU and Linux have the emulated sets.

use std::arch::x86_64::_xgetbv;
use std::fs;
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use iced_x86::{Code, Decoder, DecoderOptions};

/// An instruction by which a program asks what there is.
#[derive(Clone, Copy)]
pub enum Question {
    Cpuid,
    Xgetbv,
}

impl Question {
    pub const fn length(self) -> usize {
        match self {
            Question::Cpuid => 2,
            Question::Xgetbv => 3,
        }
    }
}

/// The addresses of the questions that are `ud2` now, in order.
static REPLACED: OnceLock<Vec<(u64, Question)>> = OnceLock::new();

/// The question that stood at `address`.
pub fn replaced(address: u64) -> Option<Question> {
    let all = REPLACED.get()?;
    let found = all.binary_search_by_key(&address, |(at, _)| *at).ok()?;
    Some(all[found].1)
}

/// Puts `ud2` in place of each `cpuid` and `xgetbv` in the text of the program. Those of shared
/// libraries stay: the standard library of Rust and the kernels are part of the program.
pub fn replace_questions() {
    const UD2: [u8; 2] = [0x0f, 0x0b];
    let mut all = Vec::new();
    for (start, length) in text() {
        // SAFETY: mapped and readable, and not written while it is borrowed.
        let code = unsafe { slice::from_raw_parts(start as *const u8, length) };
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let questions: Vec<_> = (decoder.iter())
            .filter_map(|instruction| match instruction.code() {
                Code::Cpuid => Some((instruction.ip(), Question::Cpuid)),
                Code::Xgetbv => Some((instruction.ip(), Question::Xgetbv)),
                _ => None,
            })
            .collect();
        protect(start, length, libc::PROT_READ | libc::PROT_WRITE);
        for (address, _) in &questions {
            // SAFETY: inside of the text, which is writable and not run now: no thread has started.
            unsafe { (*address as *mut [u8; 2]).write(UD2) };
        }
        protect(start, length, libc::PROT_READ | libc::PROT_EXEC);
        all.extend(questions);
    }
    all.sort_by_key(|(address, _)| *address);
    assert!(REPLACED.set(all).is_ok());
}

fn protect(start: u64, length: usize, protection: libc::c_int) {
    // SAFETY: a whole mapping of the program's text.
    let result = unsafe { libc::mprotect(start as *mut _, length, protection) };
    assert_eq!(result, 0, "mprotect: {}", std::io::Error::last_os_error());
}

/// Start and length of the program's executable mappings.
fn text() -> Vec<(u64, usize)> {
    let program = fs::read_link("/proc/self/exe").expect("/proc is mounted");
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mapping = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        (rest.starts_with("r-xp") && rest.ends_with(program.to_str()?))
            .then_some((start, (end - start) as usize))
    };
    maps.lines().filter_map(mapping).collect()
}

const ARCH_GET_XCOMP_PERM: u32 = 0x1022;
const ARCH_REQ_XCOMP_PERM: u32 = 0x1023;
const XFEATURE_XTILEDATA: u32 = 18;

/// Whether the program has asked for tile data.
static PERMITTED: AtomicBool = AtomicBool::new(false);

/// Has Linux raise `SIGSYS` instead of answering questions about tile data, which it does not know here.
pub fn trap_permissions() {
    const NUMBER: u32 = 0; // offsets in `seccomp_data`
    const ARGUMENTS: u32 = 16;
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
    let unless = |value, skip| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip);
    let answer = |value| step(libc::BPF_RET | libc::BPF_K, value, 0);
    let mut filter = [
        load(NUMBER),
        unless(libc::SYS_arch_prctl as u32, 7),
        load(ARGUMENTS),
        unless(ARCH_GET_XCOMP_PERM, 1),
        answer(libc::SECCOMP_RET_TRAP),
        unless(ARCH_REQ_XCOMP_PERM, 3),
        load(ARGUMENTS + 8),
        unless(XFEATURE_XTILEDATA, 1),
        answer(libc::SECCOMP_RET_TRAP),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` is valid, and copied by the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                ptr::from_ref(&program),
            )
    };
    assert_eq!(result, 0, "seccomp: {}", std::io::Error::last_os_error());
}

/// Linux's answer to `arch_prctl(question, argument)` on a CPU with AMX.
pub fn permission(question: u64, argument: u64) -> i64 {
    let tile_data = 1 << XFEATURE_XTILEDATA;
    if question == ARCH_REQ_XCOMP_PERM.into() {
        if signal_stack().is_some_and(|size| size < TILE_DATA_BYTES) {
            return -i64::from(libc::ENOSPC);
        }
        PERMITTED.store(true, Ordering::SeqCst);
    } else {
        // SAFETY: a CPU with AVX has `xgetbv`.
        let mut features = unsafe { _xgetbv(0) } | crate::TILE_STATE & !tile_data;
        if PERMITTED.load(Ordering::SeqCst) {
            features |= tile_data;
        }
        // SAFETY: Linux would write there; what the program may not write is a fault.
        unsafe { (argument as *mut u64).write(features) };
    }
    0
}

/// What the frame of a signal grows by with tile data.
const TILE_DATA_BYTES: usize = 8 << 10;

/// Bytes of this thread's signal stack. (Linux looks at those of all threads, and at the whole frame.)
fn signal_stack() -> Option<usize> {
    // SAFETY: only writes `stack`, of which zeros are a value.
    let stack = unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(ptr::null(), &mut stack);
        stack
    };
    (stack.ss_flags & libc::SS_DISABLE == 0).then_some(stack.ss_size)
}

/// One instruction of a filter; a comparison that fails skips `skip` of them.
fn step(code: u32, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k,
    }
}
