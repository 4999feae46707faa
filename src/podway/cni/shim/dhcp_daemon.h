/*
 * `dhcp daemon`, as the reference plugin's units and DaemonSets start it. The agent keeps the leases, so there is
 * nothing to do; but who ended at once would be started again and again. dhcp_daemon.py does the same in Python.
 */
#include <signal.h>

#define FIRST_PASSED 3 /* SD_LISTEN_FDS_START: the first socket of a socket unit */

static const char *pidfile;

static bool is_dhcp_daemon(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	return argc > 1 && !strcmp(slash ? slash + 1 : argv[0], "dhcp") && !strcmp(argv[1], "daemon");
}

static void be_ended(int number)
{
	(void)number;
	if (pidfile)
		unlink(pidfile);
	_exit(0);
}

/* The value of -pidfile, in each way that Go's flags are written; the others change nothing. */
static const char *pidfile_of(char **flags)
{
	for (; *flags; flags++) {
		const char *flag = *flags + (**flags == '-') + !strncmp(*flags, "--", 2);
		if (flag == *flags || strncmp(flag, "pidfile", 7))
			continue;
		if (flag[7] == '=')
			return flag + 8;
		if (!flag[7])
			return flags[1];
	}
	return NULL;
}

static bool write_pid(void)
{
	char text[16];
	int fd = open(pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool done = fd >= 0 && write_all(fd, text, (size_t)sprintf(text, "%d", getpid()));
	if (!done)
		fprintf(stderr, "dhcp daemon: can't write -pidfile %s: %s\n", pidfile, strerror(errno));
	close(fd);
	return done;
}

/* Whether a socket unit has passed its socket: who connects must not wait for ever. */
static bool has_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	return pid && count && atoi(pid) == getpid() && atoi(count) > 0;
}

__attribute__((noreturn)) static void run_dhcp_daemon(char **flags)
{
	static const char text[] = "dhcp daemon: Podway's agent keeps the DHCP leases of pods; this process has nothing "
				   "to do, waits until it is ended, and may be disabled\n";
	struct sigaction action = {.sa_handler = be_ended};
	bool listening = has_socket();
	pidfile = pidfile_of(flags);
	if (pidfile && !*pidfile)
		pidfile = NULL;
	sigaction(SIGTERM, &action, NULL); /* as PID 1 of a container too */
	sigaction(SIGINT, &action, NULL);
	if (pidfile && !write_pid())
		exit(1);
	write_all(STDERR_FILENO, text, sizeof text - 1);
	for (;;) {
		int fd = listening ? accept(FIRST_PASSED, NULL, NULL) : pause();
		if (fd >= 0)
			close(fd);
		else if (listening && errno != EINTR && errno != ECONNABORTED)
			listening = false;
	}
}
