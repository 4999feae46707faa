/*
 * A growing buffer, and a strict JSON scanner (RFC 8259, UTF-8 as in RFC 3629): it checks a whole
 * document without building it; who wants a member reads it with string() on the way.
 */
#ifndef PODWAY_JSON_H
#define PODWAY_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_LIMIT 256

struct buffer {
	char *data;
	size_t size, room;
};

static void reserve(struct buffer *b, size_t more)
{
	if (b->size + more <= b->room)
		return;
	b->room = (b->size + more) * 2;
	b->data = realloc(b->data, b->room);
	if (!b->data)
		abort(); /* the runtime sees the signal, as with any other plugin out of memory */
}

static void put(struct buffer *b, const void *data, size_t size)
{
	reserve(b, size);
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

struct scan {
	const unsigned char *p, *end;
	int depth;
};

static int peek(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
	return s->p < s->end ? *s->p : -1;
}

static bool take(struct scan *s, int c)
{
	if (peek(s) != c)
		return false;
	s->p++;
	return true;
}

static void put_utf8(struct buffer *out, unsigned c)
{
	char b[4];
	size_t n = 0;
	if (c < 0x80) {
		b[n++] = (char)c;
	} else if (c < 0x800) {
		b[n++] = (char)(0xc0 | c >> 6);
	} else {
		b[n++] = (char)(c < 0x10000 ? 0xe0 | c >> 12 : 0xf0 | c >> 18);
		if (c >= 0x10000)
			b[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		b[n++] = (char)(0x80 | (c & 0x3f));
	put(out, b, n);
}

static bool hex4(struct scan *s, unsigned *out)
{
	*out = 0;
	if (s->end - s->p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		unsigned c = *s->p++, low = c | 0x20;
		if (c >= '0' && c <= '9')
			*out = *out << 4 | (c - '0');
		else if (low >= 'a' && low <= 'f')
			*out = *out << 4 | (low - 'a' + 10);
		else
			return false;
	}
	return true;
}

static bool escape(struct scan *s, struct buffer *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	if (s->p == s->end)
		return false;
	unsigned c = *s->p++, low;
	if (c != 'u') {
		const char *found = c ? strchr(from, (int)c) : NULL;
		if (found)
			put_utf8(out, (unsigned char)to[found - from]);
		return found;
	}
	if (!hex4(s, &c) || (c >= 0xdc00 && c < 0xe000))
		return false;
	if (c >= 0xd800 && c < 0xdc00) {
		if (s->end - s->p < 2 || *s->p++ != '\\' || *s->p++ != 'u' || !hex4(s, &low) || low < 0xdc00 ||
		    low >= 0xe000)
			return false;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	put_utf8(out, c);
	return true;
}

/* The length of the well-formed UTF-8 sequence at p (RFC 3629), 0 when there is none. */
static size_t utf8(const unsigned char *p, const unsigned char *end)
{
	size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
	if ((size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (n > 2 && ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
		      (*p == 0xf4 && p[1] > 0x8f)))
		return 0;
	return n;
}

/* Appends the decoded text to out. */
static bool string(struct scan *s, struct buffer *out)
{
	if (!take(s, '"'))
		return false;
	while (s->p < s->end && *s->p != '"') {
		size_t n = utf8(s->p, s->end);
		if (n == 0 || *s->p < 0x20)
			return false;
		if (*s->p == '\\') {
			s->p++;
			if (!escape(s, out))
				return false;
			continue;
		}
		put(out, s->p, n);
		s->p += n;
	}
	return take(s, '"');
}

static bool digits(struct scan *s)
{
	const unsigned char *start = s->p;
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > start;
}

static bool number(struct scan *s)
{
	if (s->p < s->end && *s->p == '-')
		s->p++;
	const unsigned char *start = s->p;
	if (!digits(s) || (*start == '0' && s->p - start > 1))
		return false;
	if (s->p < s->end && *s->p == '.' && (s->p++, !digits(s)))
		return false;
	if (s->p == s->end || (*s->p | 0x20) != 'e')
		return true;
	s->p++;
	if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
		s->p++;
	return digits(s);
}

static bool word(struct scan *s, const char *text)
{
	size_t n = strlen(text);
	if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n))
		return false;
	s->p += n;
	return true;
}

static bool value(struct scan *s);

static bool members(struct scan *s, int close, bool (*member)(struct scan *))
{
	if (++s->depth > DEPTH_LIMIT)
		return false;
	s->p++;
	if (!take(s, close)) {
		do
			if (!member(s))
				return false;
		while (take(s, ','));
		if (!take(s, close))
			return false;
	}
	s->depth--;
	return true;
}

static struct buffer scratch; /* a key or text that is only checked */

static bool pair(struct scan *s)
{
	scratch.size = 0;
	return string(s, &scratch) && take(s, ':') && value(s);
}

static bool value(struct scan *s)
{
	switch (peek(s)) {
	case '{':
		return members(s, '}', pair);
	case '[':
		return members(s, ']', value);
	case '"':
		scratch.size = 0;
		return string(s, &scratch);
	case 't':
		return word(s, "true");
	case 'f':
		return word(s, "false");
	case 'n':
		return word(s, "null");
	default:
		return number(s);
	}
}

#endif
