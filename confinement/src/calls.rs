//! System calls, by seccomp. Two filters, of which the stricter word counts:
//!
//! - what no path of this code ever calls and an attacker would (running programs, reading other processes, mounting,
//!   loading code into the kernel) **ends the process**: whoever calls it is not us. A service manager starts the next.
//! - what is on no list is **not there** (`ENOSYS`), as in an older kernel: libraries then take another way, which with
//!   `EPERM` they do not, so that one with a new call in it works on. `clone3` is among these: whether it makes a thread or
//!   a process cannot be seen, and libraries go on with `clone`, of which it can.
//!
//! The lists hold for x86-64 and aarch64.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Whether rings are made after the filters are in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// All there will be are there.
    Made,
    /// Some come.
    ToCome,
}

/// Puts both filters on every thread.
pub fn filter(rings: Rings) -> Result<(), String> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Err(format!("there is no list of system calls for {}", std::env::consts::ARCH));
    };
    let refused = |error| format!("cannot make the filter of system calls: {error}");
    let hostile = hostile(arch).map_err(refused)?;
    let usual = usual(arch, rings).map_err(refused)?;
    // This order: the second forbids further filters.
    for program in [hostile, usual] {
        apply_filter_all_threads(&program).map_err(|error| format!("cannot filter system calls: {error}"))?;
    }
    Ok(())
}

fn hostile(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = HOSTILE.iter().map(|call| (*call, Vec::new())).collect();
    // Types on a terminal as its user would.
    rules.insert(libc::SYS_ioctl, vec![only(1, SeccompCmpOp::Eq, libc::TIOCSTI)?]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch)?.try_into()
}

fn usual(arch: TargetArch, rings: Rings) -> Result<BpfProgram, BackendError> {
    let mut rules: Rules = USUAL.iter().chain(USUAL_OLD).map(|call| (*call, Vec::new())).collect();
    if rings == Rings::ToCome {
        rules.insert(libc::SYS_io_uring_setup, Vec::new());
    }
    // Threads, and no processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![only(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // Memory to write or to run, never both; and none becomes code that was something else.
    let (write, run) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let one_of = |kinds: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        kinds.iter().map(|kind| only(2, SeccompCmpOp::MaskedEq(write | run), *kind)).collect()
    };
    rules.insert(libc::SYS_mmap, one_of(&[0, write, run])?);
    rules.insert(libc::SYS_mprotect, one_of(&[0, write])?);
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let families: Result<Vec<_>, _> =
        families.iter().map(|family| only(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))).collect();
    rules.insert(libc::SYS_socket, families?);
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, missing, SeccompAction::Allow, arch)?.try_into()
}

fn only(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
}

const HOSTILE: &[c_long] = &[
    // Other programs, and other processes' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Another view of the host.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    // Another user.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
];

const USUAL: &[c_long] = &[
    // Memory and threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_msync,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // This process.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_prctl,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_getrandom,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The successor's end is waited for.
    libc::SYS_pidfd_open,
    // Files.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_unlinkat,
    // What `rename` is where there is no call of that name, as on aarch64.
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sync_file_range,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    // Sockets, of the families in the rules.
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

/// Calls that later architectures have no more.
#[cfg(target_arch = "x86_64")]
const USUAL_OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_getrlimit,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];

/// Calls that later architectures have no more.
#[cfg(not(target_arch = "x86_64"))]
const USUAL_OLD: &[c_long] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_contradict_neither_each_other_nor_the_compiler() {
        let both = HOSTILE.iter().find(|call| USUAL.contains(call) || USUAL_OLD.contains(call));
        assert_eq!(both, None, "a call of ours would end the process");
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            hostile(arch).unwrap();
            usual(arch, Rings::Made).unwrap();
            usual(arch, Rings::ToCome).unwrap();
        }
    }

    #[test]
    fn what_every_architecture_has_is_allowed_on_every_one() {
        let everywhere = [libc::SYS_renameat, libc::SYS_sync_file_range];
        let only_old = USUAL_OLD.iter().find(|call| everywhere.contains(call));
        assert_eq!(only_old, None, "an architecture without the older calls would be left without this one");
    }
}
