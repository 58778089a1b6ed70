//! Unix sockets that are listened on, with a mode.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Whether nobody answers at `path`.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when a process does.
pub fn is_free(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path) {
        Ok(_) => {
            let taken = "another process answers on it; stop that one first";
            Err(io::Error::new(io::ErrorKind::AddrInUse, taken))
        }
        Err(_) => Ok(()),
    }
}

/// A listening socket at `path`, in the place of whatever was there, that those may open whom `mode`
/// lets. Blocking.
///
/// Nobody else could open it at any time.
///
/// # Errors
/// What the kernel says.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = born(path, mode)?;
    // What the mask took away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// A socket at `path` with no more than `mode`: Linux gives the file the mode that the socket has
/// before it is bound, less the process's mask. The mask itself stays alone, for it is that of all
/// threads and of every child that is started meanwhile.
fn born(path: &Path, mode: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_socket_has_its_mode_whatever_the_mask_and_takes_the_place_of_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        for mode in [0o600, 0o660, 0o666, 0o600] {
            let listener = bind(&path, mode).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
            let taken = is_free(&path).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            drop(listener);
            is_free(&path).unwrap();
        }
    }

    #[test]
    fn a_socket_is_born_with_no_more_than_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let _socket = born(&path, 0o600).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_path_where_no_socket_can_be_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none/a.sock");
        assert_eq!(bind(&missing, 0o600).unwrap_err().kind(), io::ErrorKind::NotFound);
        let long = directory.path().join("a".repeat(200));
        assert!(bind(&long, 0o600).is_err());
    }
}
