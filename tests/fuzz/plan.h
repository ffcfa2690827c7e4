/* The plan of the target's gear: services of each kind, with overlapping pools. */
#ifndef FUZZ_PLAN_H
#define FUZZ_PLAN_H

#include "fastpath/flow_table.h"
#include "fastpath/plan.h"
#include "packets.h"

enum { MAGLEV, ROUND_ROBIN, UNPOOLED, MIRRORED, SERVICES };
enum { FIRST_OF_MAGLEV = 0, FIRST_OF_ROUND_ROBIN = 3, FIRST_OF_MIRRORED = 6, BACKENDS = 8 };
enum { MAX_TABLE_LEN = 7, NETWORKS = 2, MIRRORS = 2 };

typedef struct {
    nm_service services[SERVICES];
    nm_backend backends[BACKENDS];
    nm_network networks[NETWORKS];
    nm_mirror mirrors[MIRRORS];
    uint16_t tables[SERVICES][MAX_TABLE_LEN];
    uint16_t derived[SERVICES][MAX_TABLE_LEN];
    uint32_t total_open[BACKENDS]; /* open flows, with those of other gears, OTHERS */
} plan_rows;

#define MARK 0x6e6d0000u /* the mark of the first backend; some backends have none */
#define OTHERS 0xfffffffdu /* as if the others had removed more flows than added: the sum wraps, and is right */

/* Fill the rows, and a gear's plan with them. */
void plan_begin(plan_rows *rows, nm_plan *plan, int may_throttle, int needs_python);

/* Change a service's tables; how says to which. The derived table may become empty. */
void plan_change(plan_rows *rows, int service, uint8_t how);
int has_pool(int service);
/* Return the number of the backend that the present tables derive for a client. */
uint16_t derive(const plan_rows *rows, int service, const uint8_t *client, uint16_t client_port);

endpoint service_end(const plan_rows *rows, int service);
endpoint backend_end(const plan_rows *rows, int backend);
endpoint mirror_end(const plan_rows *rows, int mirror);
/* Return one of a few clients, which the plan has or, with some bits, has not. */
endpoint caller_end(uint8_t which);

#endif
