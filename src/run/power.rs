//! The power button: input devices that may send KEY_POWER (ACPI's button, gpio-keys).

use rustix::fs::{CWD, OFlags};
use rustix::io::read;

use crate::plan;
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::sys::text::Path;

/// The input devices that were there at boot, by number.
pub type Inputs = [Option<Fd>; plan::INPUTS];

/// Bytes of a struct input_event on 64-bit machines: time 16, type 2, code 2, value 4 (linux/input.h).
const EVENT_BYTES: usize = 24;

/// Opens the input devices there are. None is no error: most machines are ended by other means too.
pub fn open() -> Inputs {
    let mut digit = b'0';
    [(); plan::INPUTS].map(|()| {
        let mut path = Path::new();
        path.set(&[plan::INPUT, &[digit]]);
        digit += 1;
        file::open(CWD, path.get(), OFlags::RDONLY | OFlags::NONBLOCK).ok()
    })
}

/// Reads one event of an input device: whether the power key was pressed. Errors: ENODEV once it is gone.
pub fn pressed(input: &Fd) -> rustix::io::Result<bool> {
    let mut event = [0; EVENT_BYTES];
    read(input, &mut event)?;
    Ok(is_power_key(&event))
}

/// Whether an event is EV_KEY (1), KEY_POWER (116), pressed (1).
fn is_power_key(event: &[u8; EVENT_BYTES]) -> bool {
    event.last_chunk() == Some(&[1, 0, 116, 0, 1, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::is_power_key;

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![7; 16];
            bytes.extend(kind.to_le_bytes());
            bytes.extend(code.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            is_power_key(&bytes.try_into().unwrap())
        };
        assert!(event(1, 116, 1));
        assert!(!event(1, 116, 0));
        assert!(!event(1, 115, 1));
        assert!(!event(2, 116, 1));
    }
}
