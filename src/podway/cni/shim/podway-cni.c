/*
 * podway-cni: what a container runtime executes. It hands the call to the agent over its Unix
 * socket and prints the answer; with no agent there it becomes the in-process command instead.
 *
 * The decision for the in-process command is made before a byte is sent (or when the agent says
 * that it serves another network namespace and did nothing). After that an agent that is lost is
 * code 11: nobody can know what it did, and a request must never be executed twice.
 *
 * The message is described in wire.py; shim.py does the same in Python.
 *
 * A runtime starts it for each plugin of a chain, so it is linked with musl: glibc asks the processor dozens
 * of questions before main, each of which leaves a virtual machine for its host.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "json.h"

#define STDIN_LIMIT (10u * 1024 * 1024)
#define ANSWER_LIMIT (64u * 1024 * 1024)
#define ARGV_LIMIT 64
#define WIRE_VERSION 1
#define REQUEST_HEADER 12
#define ANSWER_HEADER 16
#define NEWEST "1.1.0"
#define SETTINGS ".podway-cni.json"
#define ARGV0_VARIABLE "PODWAY_ARGV0"
#define GET_NAMESPACE 0x894c /* SIOCGSKNS, linux/sockios.h */

enum tag { ARGV0 = 1, ENV, PATH, STDIN, DESCRIPTORS, POD_ERRNO };
enum kind { DONE = 0, ELSEWHERE = 1 };
enum code { BAD_IO = 5, BAD_JSON = 6, BAD_CONF = 7, TRY_LATER = 11 };

static const char *const versions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", NEWEST};
#define VERSIONS (sizeof versions / sizeof *versions)

extern char **environ;

/* What the shim itself needs of the configuration. */
struct conf {
	const char *version; /* one of versions[] */
	char *socket;
	char *fallback[ARGV_LIMIT + 1];
	size_t arguments;
	const char *wrong; /* what is wrong with socket or fallback */
	bool of_machine;   /* read from the file beside the executable, not from stdin */
};

static struct conf conf = {.version = NEWEST};
static const char *name; /* argv[0]: which plugin this is */

/* ---- output ------------------------------------------------------------------------------- */

static bool write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

/* JSON text of a C string: what isn't printable ASCII becomes "?", so any path can be named. */
static void quote(char *out, size_t room, const char *text)
{
	size_t n = 0;
	for (; *text && n + 3 < room; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			out[n++] = '\\';
		out[n++] = c < 0x20 || c > 0x7e ? '?' : (char)c;
	}
	out[n] = 0;
}

__attribute__((noreturn, format(printf, 2, 3))) static void fail(enum code code, const char *format, ...)
{
	char text[1024], quoted[2100], document[2400];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	quote(quoted, sizeof quoted, text);
	int n = snprintf(document, sizeof document, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\"}\n",
			 conf.version, code, quoted);
	write_all(STDOUT_FILENO, document, (size_t)n);
	exit(1);
}

#include "dhcp_daemon.h"

static void about(void)
{
	static const char text[] = "podway-cni: the CNI plugin of Podway; a container runtime runs it "
				   "(CNI spec 0.1.0 to " NEWEST ", see podway cni install)\n";
	write_all(STDERR_FILENO, text, sizeof text - 1);
	exit(0);
}

/* Must stay byte for byte what plugin.py answers: runtimes probe VERSION without any socket. */
static void answer_version(void)
{
	char text[256];
	int n = snprintf(text, sizeof text, "{\"cniVersion\":\"%s\",\"supportedVersions\":[", conf.version);
	for (size_t i = 0; i < VERSIONS; i++)
		n += snprintf(text + n, sizeof text - (size_t)n, "%s\"%s\"", i ? "," : "", versions[i]);
	n += snprintf(text + n, sizeof text - (size_t)n, "]}\n");
	write_all(STDOUT_FILENO, text, (size_t)n);
	exit(0);
}

/* ---- input -------------------------------------------------------------------------------- */

static void put_u16(struct buffer *b, unsigned value)
{
	uint16_t wire = htons((uint16_t)value);
	put(b, &wire, sizeof wire);
}

static void put_u32(struct buffer *b, size_t value)
{
	uint32_t wire = htonl((uint32_t)value);
	put(b, &wire, sizeof wire);
}

static void put_chunk(struct buffer *b, enum tag tag, const void *data, size_t size)
{
	char one = (char)tag;
	put(b, &one, 1);
	put_u32(b, size);
	put(b, data, size);
}

static void read_all(int fd, struct buffer *b)
{
	for (;;) {
		reserve(b, 65536);
		ssize_t n = read(fd, b->data + b->size, b->room - b->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail(BAD_IO, "can't read the network configuration from stdin: %s", strerror(errno));
		if (n == 0)
			return;
		b->size += (size_t)n;
		if (b->size > STDIN_LIMIT)
			fail(BAD_JSON, "the network configuration on stdin is larger than %u bytes", STDIN_LIMIT);
	}
}

/* A C string; a NUL inside can be in no path and no argument. */
static char *text(struct scan *s, const char *wrong)
{
	struct buffer out = {0};
	if (!string(s, &out))
		return NULL;
	put(&out, "", 1);
	if (strlen(out.data) + 1 != out.size)
		conf.wrong = wrong;
	return out.data;
}

static const char wrong_socket[] = "socket: must be a string without NUL, the path of the agent's socket";
static const char wrong_fallback[] = "fallback: must be an array of at most 64 strings without NUL";

static bool argument(struct scan *s)
{
	if (peek(s) != '"' || conf.arguments == ARGV_LIMIT) {
		conf.wrong = wrong_fallback;
		return value(s);
	}
	conf.fallback[conf.arguments] = text(s, wrong_fallback);
	return conf.fallback[conf.arguments++];
}

static bool read_version(struct scan *s)
{
	conf.version = NEWEST; /* of two members with one name the last holds */
	if (peek(s) != '"')
		return value(s);
	scratch.size = 0;
	if (!string(s, &scratch))
		return false;
	for (size_t i = 0; i < VERSIONS; i++)
		if (scratch.size == strlen(versions[i]) && !memcmp(scratch.data, versions[i], scratch.size))
			conf.version = versions[i];
	return true;
}

static bool top_pair(struct scan *s)
{
	scratch.size = 0;
	if (!string(s, &scratch) || !take(s, ':'))
		return false;
	put(&scratch, "", 1);
	if (!strcmp(scratch.data, "cniVersion") && !conf.of_machine)
		return read_version(s);
	if (peek(s) == 'n')
		return value(s);
	if (!strcmp(scratch.data, "socket") && peek(s) == '"')
		return (conf.socket = text(s, wrong_socket));
	if (!strcmp(scratch.data, "fallback") && peek(s) == '[') {
		conf.arguments = 0;
		return members(s, ']', argument);
	}
	if (!strcmp(scratch.data, "socket"))
		conf.wrong = wrong_socket;
	if (!strcmp(scratch.data, "fallback"))
		conf.wrong = wrong_fallback;
	return value(s);
}

static bool scan_conf(const struct buffer *in)
{
	struct scan s = {(const unsigned char *)in->data, (const unsigned char *)in->data + in->size, 0};
	bool good = peek(&s) == '{' && members(&s, '}', top_pair) && peek(&s) == -1;
	conf.fallback[conf.arguments] = NULL;
	if (!good && !conf.of_machine)
		conf.version = NEWEST;
	return good;
}

/* Opens the settings beside the executable of this path. */
static int open_settings(const char *executable)
{
	char path[PATH_MAX + sizeof SETTINGS];
	const char *slash = executable ? strrchr(executable, '/') : NULL;
	if (!slash || slash - executable >= PATH_MAX)
		return -1;
	size_t size = (size_t)(slash - executable) + 1;
	memcpy(path, executable, size);
	strcpy(path + size, SETTINGS);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* A configuration written for another plugin names no agent: the file beside the executable does, be this a
 * link. Its path is known without /proc, whose files the kernel makes anew for each process. */
static void read_settings(void)
{
	struct buffer in = {0};
	char path[PATH_MAX];
	int fd = open_settings((const char *)getauxval(AT_EXECFN));
	if (fd < 0) {
		ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
		path[size > 0 ? size : 0] = 0;
		fd = open_settings(path);
	}
	if (fd < 0)
		return;
	read_all(fd, &in);
	close(fd);
	conf.of_machine = true;
	if (!scan_conf(&in) && !conf.wrong)
		conf.wrong = "the file " SETTINGS " beside the executable is not a JSON object";
}

/* ---- the two ways ------------------------------------------------------------------------- */

__attribute__((noreturn)) static void run_in_process(const struct buffer *in, const char *why)
{
	if (!conf.arguments)
		fail(TRY_LATER, "%s, and the configuration has no fallback command", why);
	int fd = memfd_create("podway-cni-stdin", 0);
	if (fd < 0)
		fail(BAD_IO, "can't pass stdin on to %s: %s", conf.fallback[0], strerror(errno));
	if (!write_all(fd, in->data, in->size) || lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, STDIN_FILENO) < 0)
		fail(BAD_IO, "can't pass stdin on to %s: %s", conf.fallback[0], strerror(errno));
	close(fd);
	setenv(ARGV0_VARIABLE, name, 1);
	execv(conf.fallback[0], conf.fallback);
	fail(BAD_IO, "%s, and %s can't be run: %s", why, conf.fallback[0], strerror(errno));
}

static struct sockaddr_un address_of_agent(const struct buffer *in)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (!conf.socket)
		run_in_process(in, "the configuration names no agent socket");
	if (strlen(conf.socket) >= sizeof address.sun_path)
		fail(BAD_CONF, "socket: %s is longer than %zu bytes", conf.socket, sizeof address.sun_path - 1);
	strcpy(address.sun_path, conf.socket);
	return address;
}

static void dial(int fd, const struct sockaddr_un *address, const struct buffer *in)
{
	while (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			run_in_process(in, "no agent listens");
		if (errno != EINTR)
			fail(BAD_IO, "can't reach the agent at %s: %s", conf.socket, strerror(errno));
	}
}

/* The caller's network namespace: the socket's, which costs less than to ask /proc; 4.10 and CAP_NET_ADMIN. */
static int own_namespace(int socket)
{
	int fd = ioctl(socket, GET_NAMESPACE);
	if (fd < 0)
		fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(BAD_IO, "can't open /proc/self/ns/net: %s", strerror(errno));
	return fd;
}

/* Opens the namespaces into fds and builds the message; returns the number of descriptors. */
static size_t build(struct buffer *out, const struct buffer *in, int socket, int fds[2])
{
	const char *path = getenv("PATH"), *pod = getenv("CNI_NETNS");
	size_t count = 1;
	char error[16];
	fds[0] = own_namespace(socket);
	reserve(out, in->size + 65536);
	put(out, "PWRQ", 4);
	put_u16(out, WIRE_VERSION);
	put_u16(out, 0);
	put_u32(out, 0); /* the length, below */
	if (pod && *pod) {
		fds[1] = open(pod, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fds[1] >= 0)
			count = 2;
		else
			put_chunk(out, POD_ERRNO, error, (size_t)sprintf(error, "%d", errno));
	}
	put_chunk(out, ARGV0, name, strlen(name));
	for (char **e = environ; *e; e++)
		if (!strncmp(*e, "CNI_", 4))
			put_chunk(out, ENV, *e, strlen(*e));
	put_chunk(out, PATH, path ? path : "", path ? strlen(path) : 0);
	put_chunk(out, DESCRIPTORS, "cp", count);
	put_chunk(out, STDIN, in->data, in->size);
	uint32_t length = htonl((uint32_t)(out->size - REQUEST_HEADER));
	memcpy(out->data + 8, &length, sizeof length);
	return count;
}

/* False when the agent went away before it took a single byte. */
static bool send_message(int fd, const struct buffer *out, const int *fds, size_t count)
{
	union {
		char room[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec part = {out->data, out->size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
	message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
	while (part.iov_len) {
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && part.iov_len == out->size && (errno == EPIPE || errno == ECONNRESET))
			return false;
		if (n < 0) /* it may have answered without reading it all: look for that */
			return true;
		part.iov_base = (char *)part.iov_base + n;
		part.iov_len -= (size_t)n;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return true;
}

static void receive(int fd, char *data, size_t size)
{
	while (size) {
		ssize_t n = read(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail(TRY_LATER, "the agent at %s went away before it answered; try again", conf.socket);
		data += n;
		size -= (size_t)n;
	}
}

static uint32_t read_u32(const char *data)
{
	uint32_t wire;
	memcpy(&wire, data, sizeof wire);
	return ntohl(wire);
}

static int ask_agent(const struct buffer *in)
{
	struct buffer out = {0};
	struct sockaddr_un address = address_of_agent(in);
	int fds[2], fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail(BAD_IO, "can't open a socket: %s", strerror(errno));
	size_t count = build(&out, in, fd, fds);
	dial(fd, &address, in); /* last, so that the agent finds the message when it accepts */
	if (!send_message(fd, &out, fds, count))
		run_in_process(in, "the agent went away");
	char header[ANSWER_HEADER];
	receive(fd, header, sizeof header);
	uint32_t size = read_u32(header + 12);
	if (memcmp(header, "PWAN", 4) || header[4] != 0 || header[5] != WIRE_VERSION || size > ANSWER_LIMIT)
		fail(TRY_LATER, "what listens at %s does not answer as a Podway agent", conf.socket);
	if (header[7] == ELSEWHERE)
		run_in_process(in, "the agent serves another network namespace");
	char *answer = malloc(size + 1);
	if (!answer)
		fail(BAD_IO, "out of memory");
	receive(fd, answer, size);
	write_all(STDOUT_FILENO, answer, size);
	return (int)read_u32(header + 8);
}

int main(int argc, char **argv)
{
	const char *command = getenv("CNI_COMMAND");
	struct buffer in = {0};
	name = argc ? argv[0] : "podway-cni";
	while (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0)
		if (open("/dev/null", O_RDWR) < 0) /* a closed 0, 1 or 2 would become our socket */
			return 1;
	if (is_dhcp_daemon(argc, argv))
		run_dhcp_daemon(argv + 2);
	if (!command || !*command)
		about();
	read_all(STDIN_FILENO, &in);
	bool good = scan_conf(&in);
	if (!strcmp(command, "VERSION"))
		answer_version();
	if (!good)
		fail(BAD_JSON, "the network configuration on stdin is not a JSON object of valid UTF-8, "
			       "or is nested deeper than %d", DEPTH_LIMIT);
	if (!conf.socket && !conf.arguments && !conf.wrong)
		read_settings();
	if (conf.wrong)
		fail(BAD_CONF, "%s", conf.wrong);
	return ask_agent(&in);
}
