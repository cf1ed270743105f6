//! The registers of an interrupted thread, as Linux saves and restores them around a handler.

use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::sync::LazyLock;

use iced_x86::{Instruction, OpKind, Register};
use libc::{
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP,
    REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP, ucontext_t,
};

/// Where Linux keeps the general registers, by their number in an instruction.
const GENERAL: [libc::c_int; 16] = [
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9,
    REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
];

// The frame holds `xsave`'s standard format: FXSAVE's area, a header, then one area a component, where
// `cpuid` says.
const HEADER: usize = 512;
/// The number of a component, and where its registers are.
const XMM: (u32, usize) = (1, 160);
static YMM_HIGH: LazyLock<(u32, usize)> = LazyLock::new(|| component(2));
static ZMM_HIGH: LazyLock<(u32, usize)> = LazyLock::new(|| component(6));

/// Asked once: in a virtual machine `cpuid` takes longer than a signal.
fn component(number: u32) -> (u32, usize) {
    (number, __cpuid_count(0xd, number).ebx as usize)
}

pub struct Machine<'a> {
    general: &'a mut [libc::greg_t; 23],
    /// Linux's frame, of which libc's type describes the start.
    vectors: *mut u8,
}

impl Machine<'_> {
    /// # Safety
    ///
    /// `context` is what a signal handler got on a CPU with AVX, and is used by nothing else.
    pub unsafe fn new(context: *mut ucontext_t) -> Self {
        // SAFETY: the caller promises it. Only these fields: libc's type is longer than what Linux passes.
        unsafe {
            Machine {
                general: &mut (*context).uc_mcontext.gregs,
                vectors: (*context).uc_mcontext.fpregs.cast(),
            }
        }
    }

    fn general(&self, number: usize) -> u64 {
        self.general[GENERAL[number] as usize] as u64
    }

    fn set_general(&mut self, register: libc::c_int, value: u64) {
        self.general[register as usize] = value as i64;
    }

    pub fn instruction_pointer(&self) -> u64 {
        self.general[REG_RIP as usize] as u64
    }

    /// Goes on behind an instruction of that many bytes.
    pub fn skip(&mut self, length: usize) {
        self.set_general(REG_RIP, self.instruction_pointer() + length as u64);
    }

    pub fn eax(&self) -> u32 {
        self.general(Register::RAX.number()) as u32
    }

    pub fn ecx(&self) -> u32 {
        self.general(Register::RCX.number()) as u32
    }

    /// The first two arguments of a system call.
    pub fn arguments(&self) -> [u64; 2] {
        [Register::RDI, Register::RSI].map(|register| self.general(register.number()))
    }

    /// What a system call returns.
    pub fn set_result(&mut self, result: i64) {
        self.set_general(REG_RAX, result as u64);
    }

    pub fn set_cpuid(&mut self, says: CpuidResult) {
        self.set_general(REG_RAX, says.eax.into());
        self.set_general(REG_RBX, says.ebx.into());
        self.set_general(REG_RCX, says.ecx.into());
        self.set_general(REG_RDX, says.edx.into());
    }

    pub fn set_xgetbv(&mut self, says: u64) {
        self.set_general(REG_RAX, says & 0xffff_ffff);
        self.set_general(REG_RDX, says >> 32);
    }

    /// The address of a memory operand.
    pub fn address(&self, instruction: &Instruction, operand: u32) -> Option<u64> {
        instruction.virtual_address(operand, 0, |register, _, _| match register {
            Register::DS | Register::SS => Some(0),
            _ => register.is_gpr64().then(|| self.general(register.number())),
        })
    }

    /// The two parts of the address of a tile in memory: that of its first row, and bytes to the next.
    pub fn base_and_stride(&self, instruction: &Instruction) -> Option<(u64, u64)> {
        let value = |register: Register| match register {
            Register::None => Some(0),
            _ => register.is_gpr64().then(|| self.general(register.number())),
        };
        let base = value(instruction.memory_base())?;
        let index = value(instruction.memory_index())?;
        Some((
            base.wrapping_add(instruction.memory_displacement64()),
            index.wrapping_mul(instruction.memory_index_scale().into()),
        ))
    }

    /// Bytes of the program's memory; a fault, as it is without us, where it may not read them.
    pub fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        // SAFETY: bytes of any value are fine, and the program was about to read them.
        unsafe { (address as *const [u8; N]).read() }
    }

    pub fn ymm_or_memory(&self, instruction: &Instruction, operand: u32) -> Option<[u8; 32]> {
        if instruction.op_kind(operand) == OpKind::Register {
            return Some(self.ymm(instruction.op_register(operand).number()));
        }
        Some(self.read(self.address(instruction, operand)?))
    }

    pub fn ymm(&self, number: usize) -> [u8; 32] {
        let mut value = [0; 32];
        for (half, (component, offset)) in value.chunks_mut(16).zip([XMM, *YMM_HIGH]) {
            // A component whose bit is clear is zero, whatever its area holds.
            if self.present() & 1 << component != 0 {
                // SAFETY: inside of the frame.
                half.copy_from_slice(unsafe { &*self.area::<16>(offset + 16 * number) });
            }
        }
        value
    }

    /// Sets a whole vector register: a VEX instruction zeroes what is above its result.
    pub fn set_ymm(&mut self, number: usize, value: [u8; 32]) {
        let mut present = self.present();
        for (half, (component, offset)) in value.chunks(16).zip([XMM, *YMM_HIGH]) {
            // SAFETY: inside of the frame. A component that was absent is zero but for this register.
            unsafe {
                if present & 1 << component == 0 {
                    self.area::<256>(offset).write([0; 256]);
                }
                (*self.area::<16>(offset + 16 * number)).copy_from_slice(half);
            }
            present |= 1 << component;
        }
        let (component, offset) = *ZMM_HIGH;
        // SAFETY: inside of the frame.
        unsafe {
            if present & 1 << component != 0 {
                self.area::<32>(offset + 32 * number).write([0; 32]);
            }
            self.area::<8>(HEADER).write(present.to_le_bytes());
        }
    }

    /// XSTATE_BV: which components the frame holds.
    fn present(&self) -> u64 {
        // SAFETY: inside of the frame.
        u64::from_le_bytes(unsafe { self.area::<8>(HEADER).read() })
    }

    fn area<const N: usize>(&self, offset: usize) -> *mut [u8; N] {
        self.vectors.wrapping_add(offset).cast()
    }
}
