//! The socket that init asks containerd at for a sign of life.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kios_init::plan;

use crate::answer::ANSWER;
use crate::leave_behind;

fn bind() -> UnixListener {
    let path = Path::new(plan::CONTAINERD_SOCKET.to_str().expect("path"));
    fs::create_dir_all(path.parent().expect("directory")).expect("make directory");
    let _ = fs::remove_file(path);
    UnixListener::bind(path).expect("bind")
}

/// Leaves a process behind that answers.
pub fn answer() {
    let listener = bind();
    leave_behind(|| {
        let (mut stream, _) = listener.accept().expect("accept");
        // In two parts: frames need not come whole.
        let mut request = [0; 512];
        let got = stream.read(&mut request).expect("request");
        assert_eq!(&request[..got], kios_init::run::liveness::REQUEST);
        let _ = stream.write_all(&ANSWER[..20]).and_then(|()| stream.write_all(&ANSWER[20..]));
    });
}

/// Takes connections into its backlog, and does no more, as a containerd that is stopped.
pub fn backlog() {
    std::mem::forget(bind());
}
