//! What signals ask of PID 1, and their names. Pure.

use crate::error;

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
    pub fn name(self) -> &'static str {
        match self {
            Request::PowerOff => "power-off",
            Request::Reboot => "reboot",
            Request::Halt => "halt",
        }
    }
}

/// The end that signal `number` asks for. SIGRTMIN is 34, as glibc and Go count it: those who send it use their libc.
pub fn request(number: u32) -> Option<Request> {
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

/// SIGCHLD.
pub const CHILD: u32 = 17;

/// Signals 1.. in order (signal(7), every architecture but alpha, mips, parisc and sparc).
const NAMES: &[u8] =
    b"SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE \
SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF \
SIGWINCH SIGIO SIGPWR SIGSYS";

/// The name of signal `number`; `?` for a real-time one.
pub fn name(number: i32) -> &'static [u8] {
    error::word(NAMES, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_nix_gives_them() {
        for signal in nix::sys::signal::Signal::iterator() {
            assert_eq!(name(signal as i32), signal.as_str().as_bytes());
        }
        assert_eq!(name(0), b"?");
        assert_eq!(name(40), b"?");
    }

    #[test]
    fn requests_are_those_of_the_design() {
        let asked = |wanted| (0..=64).filter(|number| request(*number) == Some(wanted)).collect::<Vec<_>>();
        assert_eq!(asked(Request::PowerOff), [12, 15, 30, 38]);
        assert_eq!(asked(Request::Reboot), [2, 39]);
        assert_eq!(asked(Request::Halt), [10, 37]);
    }
}
