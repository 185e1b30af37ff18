/*
 * An NVMe/RDMA host that says what it is told to, for cases about hosts that do not keep to the protocol.
 *
 *   raw-host ADDRESS PRIVATE-DATA [DEPTH] [BYTES]
 *
 * Connects with the private data (hexadecimal) and the read depth, and prints how that ended: "established", "rejected STS" (the status of the REJECT's
 * private data), "refused REASON" (the connection manager's own), or another event's name. With BYTES it then sends a capsule of so many bytes of 0xff, and prints what
 * came of that: "answered STATUS" (of a response, hexadecimal), or an event. Ends without a goodbye: the kernel says it.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rdma_event_channel *channel;
static struct rdma_cm_id *id;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* Waits for the next event, and ends where another one than this comes. */
static void expect(enum rdma_cm_event_type wanted, const char *what)
{
	struct rdma_cm_event *event;

	if (rdma_get_cm_event(channel, &event))
		die("rdma_get_cm_event");
	if (event->event != wanted) {
		fprintf(stderr, "%s: %s, status %d\n", what, rdma_event_str(event->event), event->status);
		exit(2);
	}
	rdma_ack_cm_event(event);
}

/* The private data of what the target said: record format and status, each of two bytes, little endian. */
static int is_nvme_reject(const struct rdma_cm_event *event)
{
	const int consumer_defined = 28;

	return event->event == RDMA_CM_EVENT_REJECTED && event->status == consumer_defined && event->param.conn.private_data_len >= 4;
}

static int print_answer(void)
{
	struct rdma_cm_event *event;
	const unsigned char *data;
	int established;

	if (rdma_get_cm_event(channel, &event))
		die("rdma_get_cm_event");
	data = event->param.conn.private_data;
	established = event->event == RDMA_CM_EVENT_ESTABLISHED;
	if (established)
		puts("established");
	else if (is_nvme_reject(event))
		printf("rejected %d\n", data[2] | data[3] << 8);
	else if (event->event == RDMA_CM_EVENT_REJECTED)
		printf("refused %d\n", event->status);
	else
		puts(rdma_event_str(event->event));
	fflush(stdout);
	rdma_ack_cm_event(event);
	return established;
}

static size_t parse_hex(const char *text, unsigned char *out, size_t room)
{
	size_t len = strlen(text) / 2, at;
	unsigned byte;

	if (len > room) {
		fprintf(stderr, "private data of %zu bytes, there is room for %zu\n", len, room);
		exit(2);
	}
	for (at = 0; at < len; at++) {
		if (sscanf(text + 2 * at, "%2x", &byte) != 1) {
			fprintf(stderr, "%s is not hexadecimal\n", text);
			exit(2);
		}
		out[at] = byte;
	}
	return len;
}

static struct ibv_sge registered(size_t len, int access)
{
	unsigned char *bytes = malloc(len);
	struct ibv_mr *region;

	if (!bytes)
		die("malloc");
	memset(bytes, 0xff, len);
	region = ibv_reg_mr(id->pd, bytes, len, access);
	if (!region)
		die("ibv_reg_mr");
	return (struct ibv_sge){ .addr = (uintptr_t)bytes, .length = len, .lkey = region->lkey };
}

static struct ibv_sge response;

static void post_receive(void)
{
	struct ibv_recv_wr receive = { .sg_list = &response, .num_sge = 1 }, *bad;

	response = registered(16, IBV_ACCESS_LOCAL_WRITE);
	if (ibv_post_recv(id->qp, &receive, &bad))
		die("ibv_post_recv");
}

static void send_capsule(size_t len)
{
	struct ibv_sge part = registered(len, 0);
	struct ibv_send_wr send = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED, .sg_list = &part, .num_sge = 1 }, *bad;

	if (ibv_post_send(id->qp, &send, &bad))
		die("ibv_post_send");
}

/* A response, or an event of the connection. The last two bytes of a response are its status. */
static void print_outcome(void)
{
	struct pollfd readable = { .fd = channel->fd, .events = POLLIN };
	const unsigned char *bytes = (const unsigned char *)response.addr;
	struct ibv_wc done;

	for (;;) {
		if (ibv_poll_cq(id->recv_cq, 1, &done) > 0 && done.status == IBV_WC_SUCCESS) {
			printf("answered %02x%02x\n", bytes[15], bytes[14]);
			return;
		}
		if (poll(&readable, 1, 20) > 0) {
			print_answer();
			return;
		}
	}
}

int main(int count, char **arguments)
{
	unsigned char data[56];
	struct rdma_conn_param request = { .retry_count = 7, .rnr_retry_count = 7, .private_data = data };
	struct ibv_qp_init_attr queues = { .qp_type = IBV_QPT_RC, .cap = { .max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1 } };
	struct addrinfo *address;

	if (count < 3) {
		fprintf(stderr, "usage: raw-host ADDRESS PRIVATE-DATA [DEPTH] [BYTES]\n");
		return 2;
	}
	request.private_data_len = parse_hex(arguments[2], data, sizeof(data));
	request.initiator_depth = request.responder_resources = count > 3 ? atoi(arguments[3]) : 16;
	if (getaddrinfo(arguments[1], "4420", NULL, &address))
		die("getaddrinfo");
	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &id, NULL, RDMA_PS_TCP))
		die("rdma_create_id");
	if (rdma_resolve_addr(id, NULL, address->ai_addr, 5000))
		die("rdma_resolve_addr");
	expect(RDMA_CM_EVENT_ADDR_RESOLVED, "address");
	if (rdma_resolve_route(id, 5000))
		die("rdma_resolve_route");
	expect(RDMA_CM_EVENT_ROUTE_RESOLVED, "route");
	if (rdma_create_qp(id, NULL, &queues))
		die("rdma_create_qp");
	post_receive();
	if (rdma_connect(id, &request))
		die("rdma_connect");
	if (print_answer() && count > 4) {
		send_capsule(strtoul(arguments[4], NULL, 10));
		print_outcome();
	}
	return 0;
}
