//! What signals ask of PID 1, and their names. Pure.

use crate::error;
use crate::sys::signal::Mask;
use crate::sys::text::{Text, t};

/// An end of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Power off.
    PowerOff,
    /// Restart.
    Reboot,
    /// Stop, and leave the power on.
    Halt,
}

impl Request {
    /// Its name in init's lines.
    pub fn name(self) -> Text {
        match self {
            Request::PowerOff => t(c"power-off"),
            Request::Reboot => t(c"reboot"),
            Request::Halt => t(c"halt"),
        }
    }
}

/// The end that signal `number` asks for. SIGRTMIN is 34, as glibc and Go count it: those who send it use their libc.
pub const fn request(number: u32) -> Option<Request> {
    const RTMIN: u32 = 34;
    const HALT: u32 = RTMIN + 3;
    const POWER_OFF: u32 = RTMIN + 4;
    const REBOOT: u32 = RTMIN + 5;
    match number {
        // SIGTERM, SIGPWR, SIGUSR2
        15 | 30 | 12 | POWER_OFF => Some(Request::PowerOff),
        // SIGINT: Ctrl-Alt-Del, as the kernel sends it
        2 | REBOOT => Some(Request::Reboot),
        // SIGUSR1
        10 | HALT => Some(Request::Halt),
        _ => None,
    }
}

/// Those that init reads: each that asks for an end, and SIGCHLD. Others stay pending: the kernel hands the lowest number out
/// first, so that a flood of one that means nothing would hide one that does.
pub const HEARD: Mask = {
    const CHILD: u32 = 17;
    let (mut mask, mut number) = (1 << (CHILD - 1), 1);
    while number <= Mask::BITS {
        if request(number).is_some() {
            mask |= 1 << (number - 1);
        }
        number += 1;
    }
    mask
};

/// Names by number, as [`error::word`] has them, without SIG (signal(7), every architecture but alpha, mips, parisc and
/// sparc).
const NAMES: &[u8] = b"\x01HUP\0\x02INT\0\x03QUIT\0\x04ILL\0\x05TRAP\0\x06ABRT\0\x07BUS\0\x08FPE\0\x09KILL\0\x0aUSR1\0\
\x0bSEGV\0\x0cUSR2\0\x0dPIPE\0\x0eALRM\0\x0fTERM\0\x10STKFLT\0\x11CHLD\0\x12CONT\0\x13STOP\0\
\x14TSTP\0\x15TTIN\0\x16TTOU\0\x17URG\0\x18XCPU\0\x19XFSZ\0\x1aVTALRM\0\x1bPROF\0\x1cWINCH\0\x1dIO\0\
\x1ePWR\0\x1fSYS";

/// The name of signal `number` without its SIG; none for a real-time one.
pub fn name(number: i32) -> Option<&'static [u8]> {
    error::word(NAMES, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_nix_gives_them() {
        for signal in nix::sys::signal::Signal::iterator() {
            assert_eq!(name(signal as i32), Some(&signal.as_str().as_bytes()[3..]));
        }
        assert_eq!(name(0), None);
        assert_eq!(name(40), None);
    }

    #[test]
    fn requests_are_those_of_the_design() {
        let asked = |wanted| (0..=64).filter(|number| request(*number) == Some(wanted)).collect::<Vec<_>>();
        assert_eq!(asked(Request::PowerOff), [12, 15, 30, 38]);
        assert_eq!(asked(Request::Reboot), [2, 39]);
        assert_eq!(asked(Request::Halt), [10, 37]);
        let heard: Vec<_> = (1..=64).filter(|number| HEARD >> (number - 1) & 1 == 1).collect();
        assert_eq!(heard, [2, 10, 12, 15, 17, 30, 37, 38, 39]);
    }
}
