//! Whether containerd answers. It has no watchdog of its own, and a stopped one still takes connections into its backlog.
//!
//! So init asks it as kubelet does every second: ListPodSandbox of CRI (k8s.io/cri-api, runtime/v1), in one constant request of
//! HTTP/2 and gRPC. The answer takes the server, its scheduler, CRI and CRI's store, and nothing that may rightly take long:
//! Status waits for CNI plugins. Of the answer only the frames' headers are looked at: data on the request's stream come from
//! the handler alone, an error comes without. What else may hang is seen by kubelet, which goes silent: both are started again.
//!
//! A child asks, since what a pod mounts over /run, or marks there, may hold whoever follows a path. It ends with 0 once it has
//! an answer.

use rustix::fd::AsFd;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Pid;

use crate::error::{During, Result};
use crate::plan;
use crate::sys::{file, net, process, signal};

/// The request: HTTP/2's preface, empty SETTINGS, HEADERS and DATA of stream 1 (RFC 9113; the header fields by RFC 7541: POST,
/// http, then literals for path, authority and content type), which are one gRPC call with an empty message.
pub const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x4b\x01\x04\x00\x00\x00\x01\x83\x86\
    \x04\x29/runtime.v1.RuntimeService/ListPodSandbox\
    \x01\x09localhost\
    \x0f\x10\x10application/grpc\
    \x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00";

/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Types of frames, and the flag of a stream's last one.
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// The header of an HTTP/2 frame (RFC 9113, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes that follow.
    pub length: usize,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream it belongs to; 0 is the connection.
    pub stream: u32,
}

impl Frame {
    /// Reads one.
    pub fn of([high, mid, low, kind, flags, stream @ ..]: [u8; HEADER]) -> Frame {
        let length = u32::from_be_bytes([0, high, mid, low]) as usize;
        Frame { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    /// What it means for the request: true an answer, false that none will come.
    fn verdict(&self) -> Option<bool> {
        let own = self.stream == 1;
        if own && self.kind == DATA && self.length > 0 {
            return Some(true);
        }
        let ended = own && (self.kind == RST_STREAM || self.flags & END_STREAM != 0);
        (ended || self.kind == GOAWAY).then_some(false)
    }
}

/// Starts a child that asks. Errors: of clone3(2).
pub fn ask() -> Result<Pid> {
    if let Some(pid) = process::fork().during(c"fork")? {
        return Ok(pid);
    }
    let _ = signal::unblock_all();
    process::exit(u8::from(is_answered() != Some(true)))
}

fn is_answered() -> Option<bool> {
    let connection = net::connect(plan::CONTAINERD_SOCKET).ok()?;
    net::send(&connection, REQUEST, None).ok()?;
    // From here on it may wait.
    fcntl_setfl(&connection, OFlags::empty()).ok()?;
    let (mut header, mut rest) = ([0; HEADER], [0; 1024]);
    while file::fill(connection.as_fd(), &mut header) {
        let frame = Frame::of(header);
        if let Some(verdict) = frame.verdict() {
            return Some(verdict);
        }
        let mut left = frame.length;
        while left > 0 {
            let part = left.min(rest.len());
            if !file::fill(connection.as_fd(), rest.get_mut(..part)?) {
                return None;
            }
            left -= part;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_whole_frames() {
        let mut rest = REQUEST.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk() {
            let frame = Frame::of(*header);
            rest = &after[frame.length..];
            frames.push((frame.kind, frame.flags, frame.stream));
        }
        assert_eq!((frames, rest), (vec![(4, 0, 0), (1, 4, 1), (0, 1, 1)], &[][..]));
    }

    #[test]
    fn only_data_of_the_request_are_an_answer() {
        let verdict = |length, kind, flags, stream| Frame { length, kind, flags, stream }.verdict();
        assert_eq!(verdict(9, DATA, 0, 1), Some(true));
        // Settings, the answer's headers, a window update, another stream's data.
        for frame in [(18, 4, 0, 0), (14, 1, 4, 1), (4, 8, 0, 0), (5, DATA, 0, 3), (0, DATA, 0, 1)] {
            assert_eq!(verdict(frame.0, frame.1, frame.2, frame.3), None, "{frame:?}");
        }
        // Headers that end the stream are an error's; no data; reset; going away.
        for frame in [(60, 1, 5, 1), (0, DATA, 1, 1), (4, RST_STREAM, 0, 1), (8, GOAWAY, 0, 0)] {
            assert_eq!(verdict(frame.0, frame.1, frame.2, frame.3), Some(false), "{frame:?}");
        }
        let frame = Frame { length: 0x01_0203, kind: 4, flags: 5, stream: 0x0708_090a };
        assert_eq!(Frame::of([1, 2, 3, 4, 5, 0x87, 8, 9, 10]), frame);
    }
}
