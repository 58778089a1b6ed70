//! System calls that neither we nor what we start should make.
//!
//! A filter is inherited by every check, reload command and child, which are programs of anybody's. So
//! it is a list of what nobody of them needs, and no list of what we need (docs/decisions/0079):
//! mounting, modules, tracing, other namespaces, the clock, the keys of the kernel, and such.

use std::collections::BTreeMap;
use std::io;

use rustix::thread::{SecureComputingMode, secure_computing_mode};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

use crate::config::Seccomp;

/// What is refused.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Filters from now on, in every thread and in whatever we start. `inherits`: another process like this
/// one has started us, whose filter holds for us too, and need not be put upon itself at each upgrade.
pub(super) fn apply(wanted: Seccomp, inherits: bool) -> io::Result<()> {
    let action = match wanted {
        Seccomp::Off => return Ok(()),
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Enforce => SeccompAction::Errno(libc::EPERM as u32),
    };
    let filtered = || secure_computing_mode() == Ok(SecureComputingMode::Filter);
    if inherits && filtered() {
        return Ok(());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let rules: BTreeMap<i64, Vec<_>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
    let program: seccompiler::BpfProgram =
        filter.map_err(io::Error::other)?.try_into().map_err(io::Error::other)?;
    apply_filter_all_threads(&program).map_err(io::Error::other)
}
