/* A closed-loop load generator for cubequeue's bench: one thread, epoll, prebuilt messages.
 *
 *   load PLAN HOST_PORT connections depth warmup_s seconds      drive a server, print one JSON line
 *   load PLAN HOST_PORT connections depth 0 0 REQUESTS          send so many requests in all, then end
 *   load sink PORT                                              echo every frame: the ceiling of `load` itself
 *
 * A plan is a text file. Its first line is the protocol, `ws` or `resp`, and how many of the steps are sent once, before
 * the cycle that every lane repeats; each further line is one step:
 *
 *   name key_offset id_offset connection_offset item_text_offset item_number_offset gives_item min_reply_bytes hex
 *
 * A connection has `depth` lanes, each with one request in flight. The offsets say where a message carries the 32 hex
 * digits of the lane's key, the little-endian uint32 message id, the 36 characters of the connection id, and the id of
 * the item as 16 digits or as a little-endian int64; -1 where it has none. The key is a new one in each cycle, unless
 * steps are sent once: then it stays the one that these were sent with. The id of the item is taken from the reply to a
 * step that gives it. A reply without it, a reply shorter than min_reply_bytes, and an error reply are counted as
 * errors: a server cannot look fast by answering something else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_STEPS = 32, KEY_BYTES = 32, CONNECTION_ID_BYTES = 36, ITEM_DIGITS = 16, MAX_HEAD = 14 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- latency histogram: 32 linear steps an octave, under 3 % error ---- */

enum { OCTAVES = 40, STEPS_PER_OCTAVE = 32, BUCKETS = OCTAVES * STEPS_PER_OCTAVE };
typedef struct {
  uint64_t counts[BUCKETS], total;
} Histogram;

static int bucket_of(uint64_t v) {
  if (v < STEPS_PER_OCTAVE) return (int)v;
  int high = 63 - __builtin_clzll(v);
  int octave = high - 4;
  int bucket = octave * STEPS_PER_OCTAVE + (int)((v >> (high - 5)) & (STEPS_PER_OCTAVE - 1));
  return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double value_of(int bucket) {
  if (bucket < STEPS_PER_OCTAVE) return bucket;
  int octave = bucket / STEPS_PER_OCTAVE, step = bucket % STEPS_PER_OCTAVE;
  return (double)(STEPS_PER_OCTAVE + step) * (double)(1ull << (octave - 1));
}

static void record(Histogram *h, uint64_t ns) {
  h->counts[bucket_of(ns)]++;
  h->total++;
}

static double percentile_us(const Histogram *h, double p) {
  uint64_t want = (uint64_t)(p * (double)h->total), seen = 0;
  for (int i = 0; i < BUCKETS; i++)
    if ((seen += h->counts[i]) > want) return value_of(i) / 1000.0;
  return 0;
}

/* ---- growable byte buffer; `start` is consumed lazily ---- */

typedef struct {
  uint8_t *data;
  size_t start, end, room;
} Buffer;

static uint8_t *reserve(Buffer *b, size_t more) {
  if (b->start == b->end) b->start = b->end = 0;
  if (b->room - b->end < more && b->start) {
    memmove(b->data, b->data + b->start, b->end - b->start);
    b->end -= b->start;
    b->start = 0;
  }
  if (b->room - b->end < more) {
    b->room = (b->end + more) * 2;
    if (!(b->data = realloc(b->data, b->room))) die("realloc");
  }
  return b->data + b->end;
}

/* ---- the plan ---- */

typedef struct {
  char name[40];
  long key_offset, id_offset, connection_offset, item_text_offset, item_number_offset;
  int gives_item;
  size_t min_reply, size;
  uint8_t *bytes;
  Histogram latency;
} Step;

static Step steps[MAX_STEPS];
static int step_count, once_count, is_ws;

static int hex_digit(int c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static void read_plan(const char *path) {
  FILE *f = fopen(path, "r");
  if (!f) die(path);
  char *line = NULL;
  size_t room = 0;
  if (getline(&line, &room, f) < 0) die("empty plan");
  is_ws = !strncmp(line, "ws ", 3);
  once_count = atoi(strchr(line, ' '));
  while (getline(&line, &room, f) > 0) {
    Step *s = &steps[step_count++];
    int used = 0;
    if (sscanf(line, "%39s %ld %ld %ld %ld %ld %d %zu %n", s->name, &s->key_offset, &s->id_offset,
               &s->connection_offset, &s->item_text_offset, &s->item_number_offset, &s->gives_item, &s->min_reply,
               &used) < 8)
      die("bad plan line");
    char *hex = line + used;
    hex[strcspn(hex, "\n")] = 0;
    size_t body = strlen(hex) / 2, head = 0;
    s->bytes = malloc(body + MAX_HEAD);
    if (is_ws) { /* FIN + binary, masked with the key 0: masking is then the identity */
      s->bytes[0] = 0x82;
      if (body < 126) {
        s->bytes[1] = (uint8_t)(0x80 | body), head = 2;
      } else if (body < 65536) {
        s->bytes[1] = 0x80 | 126, s->bytes[2] = (uint8_t)(body >> 8), s->bytes[3] = (uint8_t)body, head = 4;
      } else {
        s->bytes[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++) s->bytes[2 + i] = (uint8_t)((uint64_t)body >> (56 - 8 * i));
        head = 10;
      }
      memset(s->bytes + head, 0, 4);
      head += 4;
    }
    for (size_t i = 0; i < body; i++)
      s->bytes[head + i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    s->size = head + body;
    long *offsets[] = {&s->key_offset, &s->id_offset, &s->connection_offset, &s->item_text_offset,
                       &s->item_number_offset};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
      if (*offsets[i] >= 0) *offsets[i] += (long)head;
  }
  free(line);
  fclose(f);
}

/* ---- connections and lanes ---- */

typedef struct {
  char key[KEY_BYTES + 1], item[ITEM_DIGITS + 1];
  int64_t item_number;
  int step;
  uint32_t turn;
  uint64_t sent_ns, cycle;
} Lane;

typedef struct {
  int fd, writing;
  uint32_t number;
  Buffer in, out;
  Lane *lanes;
  char id[CONNECTION_ID_BYTES + 1];
  uint32_t *order; /* resp answers in order: a ring of lane numbers */
  uint32_t order_head, order_tail;
} Connection;

static int depth, epoll_fd, counting;
static uint64_t answered_in_all, done, errors, bytes_in, run_tag, requests_left = UINT64_MAX, requests_open;

static void send_step(Connection *c, uint32_t lane_number) {
  if (!requests_left) return;
  requests_left--;
  requests_open++;
  Lane *l = &c->lanes[lane_number];
  Step *s = &steps[l->step];
  if (l->step == 0)
    snprintf(l->key, sizeof l->key, "%08llx%04x%04x%016llx", (unsigned long long)(run_tag & 0xffffffffu),
             c->number & 0xffff, lane_number & 0xffff, (unsigned long long)l->cycle++);
  uint8_t *p = reserve(&c->out, s->size);
  memcpy(p, s->bytes, s->size);
  if (s->key_offset >= 0) memcpy(p + s->key_offset, l->key, KEY_BYTES);
  if (s->connection_offset >= 0) memcpy(p + s->connection_offset, c->id, CONNECTION_ID_BYTES);
  if (s->item_text_offset >= 0) memcpy(p + s->item_text_offset, l->item, ITEM_DIGITS);
  if (s->item_number_offset >= 0) memcpy(p + s->item_number_offset, &l->item_number, sizeof l->item_number);
  if (s->id_offset >= 0) {
    uint32_t id = ++l->turn * (uint32_t)depth + lane_number;
    memcpy(p + s->id_offset, &id, 4);
  }
  c->out.end += s->size;
  if (!is_ws) c->order[c->order_tail++ % (uint32_t)depth] = lane_number;
  l->sent_ns = now_ns();
}

static void flush_out(Connection *c) {
  while (c->out.start < c->out.end) {
    ssize_t n = send(c->fd, c->out.data + c->out.start, c->out.end - c->out.start, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) die("send");
    c->out.start += (size_t)n;
  }
  int want = c->out.start < c->out.end;
  if (want != c->writing) {
    struct epoll_event e = {.events = EPOLLIN | (want ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->writing = want;
  }
}

/* Takes the id of an item out of a reply: the only run of exactly so many digits there. 0 when there is none. */
static int take_item(Lane *l, const uint8_t *p, size_t size) {
  size_t run = 0;
  for (size_t i = 0; i <= size; i++) {
    if (i < size && p[i] >= '0' && p[i] <= '9') {
      run++;
      continue;
    }
    if (run == ITEM_DIGITS) {
      memcpy(l->item, p + i - run, run);
      l->item_number = strtoll(l->item, NULL, 10);
      return 1;
    }
    run = 0;
  }
  return 0;
}

static void answered(Connection *c, uint32_t lane_number, const uint8_t *p, size_t size, int is_error) {
  Lane *l = &c->lanes[lane_number];
  Step *s = &steps[l->step];
  requests_open--;
  answered_in_all++;
  if (is_error || size < s->min_reply || (s->gives_item && !take_item(l, p, size))) errors++;
  if (counting) {
    record(&s->latency, now_ns() - l->sent_ns);
    done++;
    bytes_in += size;
  }
  if (++l->step == step_count) l->step = once_count;
  send_step(c, lane_number);
}

static uint32_t u32(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

/* A reply is an HttpMessage; an echo is our own request, an HttpMessage too. */
static void ws_message(Connection *c, const uint8_t *p, size_t size) {
  if (size < 16) die("short message");
  const uint8_t *table = p + u32(p);
  const uint8_t *vtable = table - (int32_t)u32(table);
  uint16_t vtable_size, id_slot, type_slot = 0;
  memcpy(&vtable_size, vtable, 2);
  memcpy(&id_slot, vtable + 4, 2);
  if (vtable_size > 6) memcpy(&type_slot, vtable + 6, 2);
  uint32_t id = id_slot ? u32(table + id_slot) : 0;
  int type = type_slot ? table[type_slot] : 0;
  answered(c, id % (uint32_t)depth, p, size, type == 3);
}

/* Takes one frame off the input; 0 when it is not there in full. */
static int take_frame(Connection *c) {
  uint8_t *p = c->in.data + c->in.start;
  size_t have = c->in.end - c->in.start, head = 2;
  if (have < 2) return 0;
  uint64_t size = p[1] & 127;
  if (size == 126) head = 4;
  if (size == 127) head = 10;
  if (have < head) return 0;
  if (head > 2) {
    size = 0;
    for (size_t i = 2; i < head; i++) size = size << 8 | p[i];
  }
  if (have - head < size) return 0;
  int opcode = p[0] & 15;
  c->in.start += head + size;
  if (opcode == 2) {
    ws_message(c, p + head, size);
  } else if (opcode == 9) { /* ping: the pong carries the same bytes, masked with 0 */
    uint8_t *q = reserve(&c->out, 6 + size);
    q[0] = 0x8a, q[1] = (uint8_t)(0x80 | size);
    memset(q + 2, 0, 4);
    memcpy(q + 6, p + head, size);
    c->out.end += 6 + size;
  } else if (opcode == 8) {
    fprintf(stderr, "closed by the server: %.*s\n", size > 2 ? (int)size - 2 : 0, p + head + 2);
    exit(1);
  }
  return 1;
}

/* The length of one RESP reply at p, 0 when it is not there in full. */
static size_t resp_length(const uint8_t *p, const uint8_t *end) {
  const uint8_t *line = memchr(p, '\n', (size_t)(end - p));
  if (!line) return 0;
  size_t size = (size_t)(line + 1 - p);
  long n = strtol((const char *)p + 1, NULL, 10);
  if (*p == '$') {
    if (n < 0) return size;
    return (size_t)(end - p) >= size + (size_t)n + 2 ? size + (size_t)n + 2 : 0;
  }
  if (*p == '*')
    for (long i = 0; i < n; i++) {
      size_t part = p + size < end ? resp_length(p + size, end) : 0;
      if (!part) return 0;
      size += part;
    }
  return size;
}

static int take_resp(Connection *c) {
  const uint8_t *p = c->in.data + c->in.start;
  if (c->in.start == c->in.end) return 0;
  size_t size = resp_length(p, c->in.data + c->in.end);
  if (!size) return 0;
  int is_error = *p == '-';
  if (is_error) fprintf(stderr, "%.*s", (int)size, p);
  c->in.start += size;
  answered(c, c->order[c->order_head++ % (uint32_t)depth], p, size, is_error);
  return 1;
}

static void readable(Connection *c) {
  uint8_t *p = reserve(&c->in, 1 << 16);
  ssize_t n = recv(c->fd, p, c->in.room - c->in.end, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) die("connection lost");
  c->in.end += (size_t)n;
  while (is_ws ? take_frame(c) : take_resp(c)) {
  }
}

static void open_connection(Connection *c, uint32_t number, const char *host, int port) {
  c->number = number;
  snprintf(c->id, sizeof c->id, "%08llx-0000-4000-8000-%012x", (unsigned long long)(run_tag & 0xffffffffu), number);
  c->lanes = calloc((size_t)depth, sizeof *c->lanes);
  c->order = calloc((size_t)depth, sizeof *c->order);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, host, &a.sin_addr);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) die("connect");
  int on = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (is_ws) {
    const char *head = "GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    if (write(c->fd, head, strlen(head)) < 0) die("handshake");
    char answer[4096];
    size_t got = 0;
    while (got < 4 || memcmp(answer + got - 4, "\r\n\r\n", 4)) /* byte by byte: frames may follow at once */
      if (got >= sizeof answer || read(c->fd, answer + got++, 1) != 1) die("no handshake answer");
    if (strncmp(answer, "HTTP/1.1 101", 12)) die("upgrade refused");
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

/* Every connection gives its messages a turn: a slow start would measure the first lanes only. */
static void drive_until(uint64_t end_ns) {
  struct epoll_event events[256];
  while (now_ns() < end_ns && (requests_left || requests_open)) {
    int n = epoll_wait(epoll_fd, events, 256, 100);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
      flush_out(c);
    }
  }
}

static void report(double seconds, double cpu_s) {
  Histogram *all = calloc(1, sizeof *all);
  for (int s = 0; s < step_count; s++) {
    for (int i = 0; i < BUCKETS; i++) all->counts[i] += steps[s].latency.counts[i];
    all->total += steps[s].latency.total;
  }
  printf("{\"requests_in_all\": %llu, \"requests\": %llu, \"seconds\": %.3f, \"per_s\": %.0f, \"errors\": %llu, "
         "\"bytes_in\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"generator_cpu\": %.3f, "
         "\"steps\": {",
         (unsigned long long)answered_in_all, (unsigned long long)done, seconds, (double)done / seconds,
         (unsigned long long)errors, (unsigned long long)bytes_in, percentile_us(all, .5), percentile_us(all, .99),
         percentile_us(all, .999), cpu_s / seconds);
  for (int s = 0; s < step_count; s++)
    printf("%s\"%s\": {\"p50_us\": %.1f, \"p99_us\": %.1f}", s ? ", " : "", steps[s].name,
           percentile_us(&steps[s].latency, .5), percentile_us(&steps[s].latency, .99));
  printf("}}\n");
  free(all);
}

static double cpu_seconds(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + 1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

/* ---- the sink: answers the handshake, then gives every frame back without its mask ---- */

static void sink_frames(Connection *c) {
  uint8_t *p = reserve(&c->in, 1 << 16);
  ssize_t n = recv(c->fd, p, c->in.room - c->in.end, 0);
  if (n < 0 && errno == EAGAIN) { /* it can be written to again */
    flush_out(c);
    return;
  }
  if (n <= 0) {
    close(c->fd);
    return;
  }
  c->in.end += (size_t)n;
  if (!c->number) {
    uint8_t *end = memmem(c->in.data, c->in.end, "\r\n\r\n", 4);
    if (!end) return;
    const char *head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    memcpy(reserve(&c->out, strlen(head)), head, strlen(head));
    c->out.end += strlen(head);
    c->in.start = (size_t)(end + 4 - c->in.data);
    c->number = 1;
  }
  for (;;) {
    uint8_t *f = c->in.data + c->in.start;
    size_t have = c->in.end - c->in.start, head = 2;
    if (have < 2) break;
    uint64_t size = f[1] & 127;
    if (size == 126) head = 4;
    if (size == 127) head = 10;
    if (have < head + 4) break;
    if (head > 2) {
      size = 0;
      for (size_t i = 2; i < head; i++) size = size << 8 | f[i];
    }
    if (have < head + 4 + size) break;
    uint8_t *q = reserve(&c->out, head + size);
    memcpy(q, f, head);
    q[1] &= 127;
    memcpy(q + head, f + head + 4, size);
    c->out.end += head + size;
    c->in.start += head + 4 + size;
  }
  flush_out(c);
}

_Noreturn static void sink(int port) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
  if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 1024)) die("listen");
  socklen_t size = sizeof a;
  getsockname(listener, (struct sockaddr *)&a, &size);
  printf("listening %d\n", ntohs(a.sin_port));
  fflush(stdout);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
  for (;;) {
    int n = epoll_wait(epoll_fd, events, 256, -1);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (c) {
        sink_frames(c);
        continue;
      }
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (fd < 0) continue;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      c = calloc(1, sizeof *c);
      c->fd = fd;
      struct epoll_event added = {.events = EPOLLIN, .data.ptr = c};
      epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &added);
    }
  }
}

int main(int argc, char **argv) {
  epoll_fd = epoll_create1(0);
  if (argc == 3 && !strcmp(argv[1], "sink")) sink(atoi(argv[2]));
  if (argc != 7 && argc != 8) {
    fprintf(stderr, "usage: load PLAN HOST:PORT connections depth warmup_s seconds [REQUESTS] | load sink PORT\n");
    return 2;
  }
  read_plan(argv[1]);
  char *host = strdup(argv[2]), *colon = strrchr(host, ':');
  *colon = 0;
  int count = atoi(argv[3]);
  depth = atoi(argv[4]);
  run_tag = now_ns() / 1000;
  if (argc == 8) requests_left = strtoull(argv[7], NULL, 10);
  Connection *connections = calloc((size_t)count, sizeof *connections);
  for (int i = 0; i < count; i++) open_connection(&connections[i], (uint32_t)i, host, atoi(colon + 1));
  for (int i = 0; i < count; i++) {
    for (uint32_t l = 0; l < (uint32_t)depth; l++) send_step(&connections[i], l);
    flush_out(&connections[i]);
  }
  if (argc == 8) {
    drive_until(UINT64_MAX);
    printf("{\"errors\": %llu}\n", (unsigned long long)errors);
    return errors ? 3 : 0;
  }
  drive_until(now_ns() + (uint64_t)(atof(argv[5]) * 1e9));
  counting = 1;
  double cpu = cpu_seconds();
  uint64_t start = now_ns();
  drive_until(start + (uint64_t)(atof(argv[6]) * 1e9));
  report((double)(now_ns() - start) / 1e9, cpu_seconds() - cpu);
  return errors ? 3 : 0;
}
