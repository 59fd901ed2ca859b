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

/// Names by number: each word begins with its number. Errno names from include/uapi/asm-generic/errno-base.h and errno.h,
/// without their E: those that mounts, disks, modules, processes and sockets answer. Others are
/// shown by number.
const NAMES: &[u8] = b"\x01PERM\0\x02NOENT\0\x03SRCH\0\x04INTR\0\x05IO\0\x06NXIO\0\x072BIG\0\x08NOEXEC\0\x09BADF\0\
\x0aCHILD\0\x0bAGAIN\0\x0cNOMEM\0\x0dACCES\0\x0eFAULT\0\x0fNOTBLK\0\x10BUSY\0\x11EXIST\0\x12XDEV\0\
\x13NODEV\0\x14NOTDIR\0\x15ISDIR\0\x16INVAL\0\x17NFILE\0\x18MFILE\0\x19NOTTY\0\
\x1cNOSPC\0\x1eROFS\0\x20PIPE\0\
\x24NAMETOOLONG\0\x26NOSYS\0\x27NOTEMPTY\0\x28LOOP\0\x3dNODATA\0\x47PROTO\0\x4aBADMSG\0\
\x4bOVERFLOW\0\x4cNOTUNIQ\0\x54ILSEQ\0\x5fOPNOTSUPP\0\x62ADDRINUSE\0\x6bNOTCONN\0\x6eTIMEDOUT\0\
\x74STALE\0\x75UCLEAN\0\x79REMOTEIO\0\x7aDQUOT\0\x7bNOMEDIUM\0\x7eNOKEY\0\x81KEYREJECTED";

/// The name of `errno` as errno(3) has it, without its E; none for a rare one.
pub fn name(errno: Errno) -> Option<&'static [u8]> {
    word(NAMES, errno.raw_os_error())
}

/// The word of a list of names that begins with `number`.
pub fn word(list: &'static [u8], number: i32) -> Option<&'static [u8]> {
    list.split(|byte| *byte == 0).find_map(|word| match word {
        [first, name @ ..] if i32::from(*first) == number => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_has_the_name_nix_gives_it() {
        let mut known = 0;
        for number in 1..=4095 {
            if let Some(name) = name(Errno::from_raw_os_error(number)) {
                let theirs = format!("{:?}", nix::errno::Errno::from_raw(number));
                assert_eq!(name, theirs.strip_prefix('E').unwrap().as_bytes(), "{number}");
                known += 1;
            }
        }
        assert_eq!(known, 49);
    }
}
