//! The way to the pod `shell` (tests/pods/shell): a virtio port, a socket on this side. One command a line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::vm::LONG;

/// A connection, made when first used.
pub struct Shell {
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
    number: u32,
    transcript: String,
}

impl Shell {
    /// To QEMU's socket, which need not be there yet.
    pub fn new(socket: PathBuf) -> Shell {
        Shell { socket, stream: None, number: 0, transcript: String::new() }
    }

    /// Runs a script: its status and output. The first waits for the pod.
    pub fn run(&mut self, script: &str) -> (i32, String) {
        if self.stream.is_none() {
            let stream = self.connect();
            stream.set_read_timeout(Some(LONG)).unwrap();
            self.stream = Some(BufReader::new(stream));
            assert_eq!(self.line(), "ready");
        }
        self.number += 1;
        let number = self.number;
        writeln!(self.stream.as_mut().unwrap().get_mut(), "{number} {}", encode(script.as_bytes())).unwrap();
        let began = Instant::now();
        let line = self.line();
        let fields: Vec<_> = line.split(' ').collect();
        let [theirs, status, output] = fields[..] else { panic!("answer to {script}: {line}") };
        assert_eq!(theirs, number.to_string());
        let output = String::from_utf8_lossy(&decode(output)).into_owned();
        let took = began.elapsed();
        self.transcript += &format!("$ {script}\n{output}-> {status} in {took:?}\n");
        (status.parse().unwrap(), output)
    }

    /// Tries until QEMU listens.
    fn connect(&self) -> UnixStream {
        let end = Instant::now() + LONG;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < end, "QEMU's socket: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.as_mut().unwrap().read_line(&mut line).expect("an answer of the pod in time");
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        if std::thread::panicking() && !self.transcript.is_empty() {
            eprintln!("---- shell\n{}", self.transcript);
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648, 4).
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter_map(|byte| ALPHABET.iter().position(|digit| *digit == byte)).collect();
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let word = chunk.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
        bytes.extend(word.to_be_bytes()[5..].iter().take(chunk.len() - 1));
    }
    bytes
}

#[test]
fn base64_there_and_back() {
    for text in ["", "a", "ab", "abc", "abcd\n\u{fc}"] {
        assert_eq!(decode(&encode(text.as_bytes())), text.as_bytes());
    }
    assert_eq!(encode(b"hello"), "aGVsbG8=");
}
