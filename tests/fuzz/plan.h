/* The plan that the target's gear has: services of each kind, with pools that overlap. */
#ifndef FUZZ_PLAN_H
#define FUZZ_PLAN_H

#include "_flows.h"
#include "_plan.h"
#include "packets.h"

enum { MAGLEV, IN_TURN, UNPOOLED, TAPPED, SERVICES };
enum { FIRST_OF_MAGLEV = 0, FIRST_OF_TURN = 3, FIRST_OF_TAPPED = 6, BACKENDS = 8 };
enum { MAX_TABLE_LEN = 7, NETWORKS = 2 };

typedef struct {
    nm_service services[SERVICES];
    nm_backend backends[BACKENDS];
    nm_network networks[NETWORKS];
    uint16_t tables[SERVICES][MAX_TABLE_LEN];
} plan_rows;

/* Fills the rows, and a gear's plan with them. */
void plan_begin(plan_rows *rows, nm_plan *plan, int is_held, int is_pythons);

endpoint service_end(const plan_rows *rows, int service);
endpoint backend_end(const plan_rows *rows, int backend);
/* A client that the plan has or, with some bits, has not: one of a few. */
endpoint caller_end(uint8_t which);

#endif
