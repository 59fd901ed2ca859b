//! Constant text as one pointer: half the size of a slice, in the plan's tables and in each error.

use core::ffi::{CStr, c_char};
use core::ptr::NonNull;

/// The address of a constant C string.
#[derive(Clone, Copy, PartialEq, Eq)]
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
