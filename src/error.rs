//! What went wrong: one constant text and the kernel's errno by name.

use rustix::io::Errno;

use crate::sys::text::Text;

/// A failure: two registers, and no owned text. Who reports it says which step or service it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Error {
    /// What failed: an action, or the path it was about.
    pub what: Text,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Error {
    /// The failure of `what`.
    pub fn new(what: impl Into<Text>, errno: Errno) -> Error {
        Error { what: what.into(), errno }
    }
}

/// The result of an action.
pub type Result<T> = core::result::Result<T, Error>;

/// Names what a failed system call was about.
pub trait During<T> {
    /// Turns an errno into an [`Error`].
    fn during(self, what: impl Into<Text>) -> Result<T>;
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during(self, what: impl Into<Text>) -> Result<T> {
        self.map_err(|errno| Error::new(what, errno))
    }
}

/// Errno 1.. in order, from include/uapi/asm-generic/errno-base.h and errno.h (41 and 58 are not used there). One string:
/// a table of slices would be four times as long.
const NAMES: &[u8] =
    b"EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK \
EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE \
EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ? ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT ? EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG \
EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD \
ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT \
EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH \
ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN \
EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE \
ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

/// The name of `errno` as errno(3) has it, or `?`.
pub fn name(errno: Errno) -> &'static [u8] {
    word(NAMES, errno.raw_os_error())
}

/// Word `number` of a list that counts from 1, or `?`.
pub fn word(list: &'static [u8], number: i32) -> &'static [u8] {
    let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
    list.split(|byte| *byte == b' ').nth(at).unwrap_or(b"?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_has_the_name_nix_gives_it() {
        let mut known = 0;
        for number in 1..=133 {
            let theirs = nix::errno::Errno::from_raw(number);
            if theirs == nix::errno::Errno::UnknownErrno {
                assert_eq!(name(Errno::from_raw_os_error(number)), b"?", "{number}");
                continue;
            }
            known += 1;
            assert_eq!(name(Errno::from_raw_os_error(number)), format!("{theirs:?}").as_bytes(), "{number}");
        }
        assert_eq!(known, 131);
    }

    #[test]
    fn unknown_errno_is_a_question_mark() {
        assert_eq!(name(Errno::from_raw_os_error(134)), b"?");
        assert_eq!(name(Errno::from_raw_os_error(4095)), b"?");
    }
}
