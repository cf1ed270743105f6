//! What programs without std have in common: a panic handler, an allocator, and `print`.
//!
//! If anything pulled in std, which has a panic handler of its own, the programs would not link. From C they
//! take the start of a program and five functions. They abort where something panics.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_void};
use core::panic::PanicInfo;

#[link(name = "c")]
unsafe extern "C" {
    safe fn abort() -> !;
    fn write(file: c_int, bytes: *const c_void, len: usize) -> isize;
    fn aligned_alloc(alignment: usize, size: usize) -> *mut u8;
    fn free(memory: *mut u8);
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    abort()
}

/// The libraries core and alloc for Linux are made for unwinding and name these two functions, which std has.
/// Nothing unwinds here, so that nothing calls them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    abort()
}

/// Writes to the standard output.
pub fn print(text: &str) {
    // SAFETY: `text` is readable. Whether it arrives does not matter.
    unsafe { write(1, text.as_ptr().cast(), text.len()) };
}

/// C's allocator.
struct FromC;

// SAFETY: memory of `aligned_alloc`, of the size and alignment asked for, that `free` takes back.
unsafe impl GlobalAlloc for FromC {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a size that is a multiple of the alignment, a power of two.
        unsafe {
            aligned_alloc(
                layout.align(),
                layout.size().next_multiple_of(layout.align()),
            )
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller's promise that it is of `alloc`.
        unsafe { free(memory) };
    }
}

#[global_allocator]
static ALLOCATOR: FromC = FromC;
