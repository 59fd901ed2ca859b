//! C strings: constant ones as one pointer, which is half the size of a slice in the plan's tables and in each error; and
//! paths made at run time.

use core::ffi::{CStr, c_char};
use core::ptr::NonNull;

/// The address of a constant C string.
#[derive(Clone, Copy)]
pub struct Text(NonNull<c_char>);

// SAFETY: what it points to is constant.
unsafe impl Sync for Text {}

/// The text's address, for the plan's tables.
pub const fn t(text: &'static CStr) -> Text {
    // SAFETY: a reference is never null.
    Text(unsafe { NonNull::new_unchecked(text.as_ptr().cast_mut()) })
}

impl Text {
    /// The text.
    pub fn get(self) -> &'static CStr {
        // SAFETY: `t` is the only way to make one, from a NUL-terminated string that lives for ever; nobody writes to it.
        unsafe { CStr::from_ptr(self.0.as_ptr()) }
    }
}

impl From<&'static CStr> for Text {
    fn from(text: &'static CStr) -> Text {
        t(text)
    }
}

impl core::fmt::Debug for Text {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(to)
    }
}

/// Bytes of the longest path made at run time, with its NUL: a kernel name (block devices have up to 32 bytes,
/// BDEVNAME_SIZE; modules 56, MODULE_NAME_LEN) and what stands around it.
const PATH_BYTES: usize = 96;

/// A path made of parts; the last byte is always its end.
pub struct Path([u8; PATH_BYTES]);

impl Default for Path {
    fn default() -> Path {
        Path::new()
    }
}

impl Path {
    /// An empty one.
    pub fn new() -> Path {
        Path([0; PATH_BYTES])
    }

    /// Makes it of `parts`. What is too long is left out: such a path is of no file the plan is about. One
    /// with a NUL ends there.
    pub fn set(&mut self, parts: &[&[u8]]) {
        self.0.fill(0);
        let (room, _end) = self.0.split_at_mut(PATH_BYTES - 1);
        for (slot, byte) in room.iter_mut().zip(parts.iter().copied().flatten()) {
            *slot = *byte;
        }
    }

    /// The path.
    pub fn get(&self) -> &CStr {
        // SAFETY: the last byte is zero: `new` made it so, and `set` leaves it.
        unsafe { CStr::from_ptr(self.0.as_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&[u8]]) -> Path {
        let mut path = Path::new();
        path.set(&[b"what was there before"]);
        path.set(parts);
        path
    }

    #[test]
    fn a_path_is_its_parts() {
        assert_eq!(joined(&[b"/dev/", b"vda"]).get(), c"/dev/vda");
        assert_eq!(joined(&[]).get(), c"");
        assert_eq!(joined(&[b"/dev/", b"v\0a"]).get(), c"/dev/v");
    }

    #[test]
    fn a_path_is_cut_before_its_end() {
        assert_eq!(joined(&[&[b'x'; 2 * PATH_BYTES]]).get().count_bytes(), PATH_BYTES - 1);
    }
}
