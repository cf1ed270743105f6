//! Buffers that end where an unmapped page begins: reading or writing past the end is a crash.

use std::ops::{Deref, DerefMut};
use std::ptr;
use std::slice;

/// `len` values of `T`, all zero bytes, the last of them `slack` bytes before an unmapped page.
pub struct Guarded<T> {
    map: *mut u8,
    map_len: usize,
    data: *mut T,
    len: usize,
}

const PAGE: usize = 65_536; // at least a page on every system that the tests run on

impl<T: Copy> Guarded<T> {
    /// Ends exactly at the unmapped page.
    pub fn new(len: usize) -> Guarded<T> {
        Guarded::with_slack(len, 0)
    }

    /// Starts on a multiple of 64 bytes; ends less than 64 bytes before the unmapped page.
    pub fn aligned(len: usize) -> Guarded<T> {
        Guarded::with_slack(len, (len * size_of::<T>()).wrapping_neg() % 64)
    }

    fn with_slack(len: usize, slack: usize) -> Guarded<T> {
        let bytes = len * size_of::<T>() + slack;
        let usable = bytes.next_multiple_of(PAGE);
        let map_len = usable + PAGE;
        // SAFETY: a fresh private mapping, whose last page is then made inaccessible.
        unsafe {
            let map = libc::mmap(
                ptr::null_mut(),
                map_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED, "mmap of {map_len} bytes");
            let map = map.cast::<u8>();
            assert_eq!(
                libc::mprotect(map.add(usable).cast(), PAGE, libc::PROT_NONE),
                0
            );
            Guarded {
                map,
                map_len,
                data: map.add(usable - bytes).cast(),
                len,
            }
        }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` plain values lie within the mapping.
        unsafe { slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed uniquely.
        unsafe { slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `with_slack` and nothing borrows from it any more.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
    }
}
