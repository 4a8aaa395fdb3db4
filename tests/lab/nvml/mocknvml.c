/* A SIMULATED libnvidia-ml.so.1: four NVIDIA H200 that do not exist, for nodes without GPUs.
 *
 * The serial number of each GPU begins with SIM, so that nobody takes it for a real one. What it says
 * can be changed while programs use it, by the file that MOCK_FAULT_FILE names (default
 * /run/leeward-lab/nvml-fault; it need not exist). One setting or fault a line:
 *
 *   count=4  name=NVIDIA H200  memory_mib=143771  cuda=13000
 *   driver=580.95.05      or driver=none (module not loaded), driver=mismatch (library and module differ)
 *   0:ecc         3 uncorrected errors, a row remap is pending, the driver asks for drain and reset
 *   0:remapfail   a row could not be remapped, the driver asks for a reset
 *   1:lost        the GPU has fallen off the bus
 *   2:hot         92 degrees, thermal slowdown
 *   2:xid79       an XID event with that number, told once to each event set
 *   3:nvlink      link 3 is down          3:pcie   x8 instead of x16        3:mig   MIG is on
 *   3:busy        97 percent used, 120 GB of memory taken                   3:nopersistence
 *   3:noecc       ECC is off                3:pending  ECC will be off and MIG on after the next reset
 *   3:slot        a slot of PCIe 4          3:capped   power limited to 350 W
 *   3:p2p         no access to the memory of the others
 *   switches=yes  NVSwitches join the GPUs; then 3:fabric means that its fabric has not come up
 *
 * The environment variables MOCK_COUNT, MOCK_NAME, MOCK_MEMORY_MIB, MOCK_CUDA and MOCK_DRIVER set
 * what the file does not. Numbers and layouts: NVML API reference R580, nvml.h.
 */
#define _POSIX_C_SOURCE 200809L
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, TOO_SMALL = 7, NOT_LOADED = 9, TIMED_OUT = 10, LOST = 15, MISMATCH = 18 };
enum { MAX_GPUS = 16, LINKS = 18, FILE_BYTES = 4096, XID_CRITICAL = 8, RECOVERY_ACTION_FIELD = 230 };

typedef struct { int index; } gpu;
typedef unsigned long long u64;
static gpu gpus[MAX_GPUS];

/* -- settings and faults ------------------------------------------------------------------------ */

static void read_file(char *text) {
  const char *path = getenv("MOCK_FAULT_FILE");
  FILE *file = fopen(path ? path : "/run/leeward-lab/nvml-fault", "r");
  size_t got = file ? fread(text, 1, FILE_BYTES - 1, file) : 0;
  text[got] = 0;
  if (file) fclose(file);
}

/* The rest of the line that begins with `key`, in `value`; 0 when there is none. */
static int find(const char *key, char *value, size_t size) {
  char text[FILE_BYTES], *save = NULL;
  read_file(text);
  for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
    while (isspace((unsigned char)*line)) line++;
    if (strncmp(line, key, strlen(key)) == 0) {
      snprintf(value, size, "%s", line + strlen(key));
      for (size_t end = strlen(value); end && isspace((unsigned char)value[end - 1]);) value[--end] = 0;
      return 1;
    }
  }
  return 0;
}

static void setting(const char *key, const char *variable, const char *otherwise, char *value, size_t size) {
  if (find(key, value, size)) return;
  const char *given = getenv(variable);
  snprintf(value, size, "%s", given ? given : otherwise);
}

static long number(const char *key, const char *variable, const char *otherwise) {
  char value[64];
  setting(key, variable, otherwise, value, sizeof value);
  return strtol(value, NULL, 10);
}

/* Whether the GPU has a fault of which `name` is the whole, or (for xid) the beginning; its rest in `rest`. */
static int fault_rest(const gpu *g, const char *name, char *rest, size_t size) {
  char key[32];
  snprintf(key, sizeof key, "%d:%s", g->index, name);
  return find(key, rest, size);
}

static int fault(const gpu *g, const char *name) {
  char rest[32];
  return fault_rest(g, name, rest, sizeof rest) && rest[0] == 0;
}

static int count(void) {
  long n = number("count=", "MOCK_COUNT", "4");
  return n < 0 ? 0 : n > MAX_GPUS ? MAX_GPUS : (int)n;
}

static u64 memory_bytes(void) { return (u64)number("memory_mib=", "MOCK_MEMORY_MIB", "143771") << 20; }

static int check(const gpu *g) {
  if (g < gpus || g >= gpus + count()) return INVALID;
  return fault(g, "lost") ? LOST : OK;
}

#define CHECK(g) do { int found = check(g); if (found) return found; } while (0)

static int put(char *buffer, unsigned size, const char *text) {
  if (strlen(text) + 1 > size) return TOO_SMALL;
  strcpy(buffer, text);
  return OK;
}

/* -- library and driver ------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
  char driver[80];
  setting("driver=", "MOCK_DRIVER", "580.95.05", driver, sizeof driver);
  if (strcmp(driver, "none") == 0) return NOT_LOADED;
  if (strcmp(driver, "mismatch") == 0) return MISMATCH;
  for (int i = 0; i < MAX_GPUS; i++) gpus[i].index = i;
  return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int result) {
  switch (result) {
    case OK: return "Success";
    case INVALID: return "Invalid Argument";
    case UNSUPPORTED: return "Not Supported";
    case TOO_SMALL: return "Insufficient Size";
    case NOT_LOADED: return "Driver Not Loaded";
    case TIMED_OUT: return "Timeout";
    case LOST: return "GPU is lost";
    case MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned size) {
  char driver[80];
  setting("driver=", "MOCK_DRIVER", "580.95.05", driver, sizeof driver);
  return put(buffer, size, driver);
}

int nvmlSystemGetNVMLVersion(char *buffer, unsigned size) {
  char driver[80], version[96];
  setting("driver=", "MOCK_DRIVER", "580.95.05", driver, sizeof driver);
  snprintf(version, sizeof version, "13.%s", driver);
  return put(buffer, size, version);
}

int nvmlSystemGetCudaDriverVersion(int *version) { *version = (int)number("cuda=", "MOCK_CUDA", "13000"); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* -- which GPUs there are ----------------------------------------------------------------------- */

int nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)count(); return OK; }
int nvmlDeviceGetCount(unsigned *n) { return nvmlDeviceGetCount_v2(n); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu **g) {
  if (index >= (unsigned)count()) return INVALID;
  CHECK(&gpus[index]);
  *g = &gpus[index];
  return OK;
}
int nvmlDeviceGetHandleByIndex(unsigned index, gpu **g) { return nvmlDeviceGetHandleByIndex_v2(index, g); }

int nvmlDeviceGetIndex(gpu *g, unsigned *index) { CHECK(g); *index = (unsigned)g->index; return OK; }
int nvmlDeviceGetMinorNumber(gpu *g, unsigned *minor) { return nvmlDeviceGetIndex(g, minor); }

int nvmlDeviceGetName(gpu *g, char *buffer, unsigned size) {
  char name[96];
  CHECK(g);
  setting("name=", "MOCK_NAME", "NVIDIA H200", name, sizeof name);
  return put(buffer, size, name);
}

int nvmlDeviceGetUUID(gpu *g, char *buffer, unsigned size) {
  char uuid[96];
  CHECK(g);
  snprintf(uuid, sizeof uuid, "GPU-51300000-0000-4000-8000-%012d", g->index);
  return put(buffer, size, uuid);
}

int nvmlDeviceGetSerial(gpu *g, char *buffer, unsigned size) {
  char serial[30];
  CHECK(g);
  snprintf(serial, sizeof serial, "SIM%010d", g->index);
  return put(buffer, size, serial);
}

int nvmlDeviceGetVbiosVersion(gpu *g, char *buffer, unsigned size) { CHECK(g); return put(buffer, size, "96.00.9F.00.01"); }
int nvmlDeviceGetBoardPartNumber(gpu *g, char *buffer, unsigned size) { CHECK(g); return put(buffer, size, "SIMULATED"); }
int nvmlDeviceGetNumaNodeId(gpu *g, int *node) { CHECK(g); *node = 0; return OK; }
int nvmlDeviceGetArchitecture(gpu *g, unsigned *architecture) { CHECK(g); *architecture = 9; return OK; /* Hopper */ }
int nvmlDeviceGetCudaComputeCapability(gpu *g, int *major, int *minor) { CHECK(g); *major = 9; *minor = 0; return OK; }

typedef struct {
  char legacy_id[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char id[32];
} pci_info;

static void pci_of(int index, pci_info *pci) {
  memset(pci, 0, sizeof *pci);
  pci->bus = 0x18u + 0x0eu * (unsigned)index;
  pci->device_id = 0x233510DE;
  pci->subsystem_id = 0x18BE10DE;
  snprintf(pci->id, sizeof pci->id, "00000000:%02X:00.0", pci->bus);
  snprintf(pci->legacy_id, sizeof pci->legacy_id, "0000:%02X:00.0", pci->bus & 0xffu);
}

int nvmlDeviceGetPciInfo_v3(gpu *g, pci_info *pci) { CHECK(g); pci_of(g->index, pci); return OK; }
int nvmlDeviceGetPciInfo_v2(gpu *g, pci_info *pci) { return nvmlDeviceGetPciInfo_v3(g, pci); }
int nvmlDeviceGetPciInfo(gpu *g, pci_info *pci) { return nvmlDeviceGetPciInfo_v3(g, pci); }

/* -- memory and its errors ---------------------------------------------------------------------- */

static u64 reserved_bytes(void) { return 500ull << 20; }
static u64 used_bytes(const gpu *g) { return fault(g, "busy") ? 120000000000ull : 4ull << 20; }

typedef struct { u64 total, free, used; } memory_v1; /* here `used` counts what the driver keeps, too */
int nvmlDeviceGetMemoryInfo(gpu *g, memory_v1 *m) {
  CHECK(g);
  m->total = memory_bytes();
  m->used = used_bytes(g) + reserved_bytes();
  m->free = m->total - m->used;
  return OK;
}

typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2;
int nvmlDeviceGetMemoryInfo_v2(gpu *g, memory_v2 *m) {
  CHECK(g);
  m->total = memory_bytes();
  m->reserved = reserved_bytes();
  m->used = used_bytes(g);
  m->free = m->total - m->reserved - m->used;
  return OK;
}

int nvmlDeviceGetEccMode(gpu *g, int *current, int *pending) {
  CHECK(g);
  *current = !fault(g, "noecc");
  *pending = *current && !fault(g, "pending");
  return OK;
}

/* Hopper remaps rows and retires no pages. */
int nvmlDeviceGetRetiredPages(gpu *g, int cause, unsigned *n, u64 *pages) { CHECK(g); return UNSUPPORTED; }
int nvmlDeviceGetRetiredPagesPendingStatus(gpu *g, int *pending) { CHECK(g); return UNSUPPORTED; }

int nvmlDeviceGetTotalEccErrors(gpu *g, int uncorrected, int counter, u64 *errors) {
  CHECK(g);
  *errors = uncorrected && fault(g, "ecc") ? 3 : 0;
  return OK;
}

int nvmlDeviceGetRemappedRows(gpu *g, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
  CHECK(g);
  *corrected = 0;
  *uncorrected = *pending = (unsigned)fault(g, "ecc");
  *failed = (unsigned)fault(g, "remapfail");
  return OK;
}

/* -- heat, power, load -------------------------------------------------------------------------- */

static unsigned celsius(const gpu *g) { return fault(g, "hot") ? 92u : 38u + (unsigned)g->index; }
int nvmlDeviceGetTemperature(gpu *g, int sensor, unsigned *t) { CHECK(g); *t = celsius(g); return OK; }
typedef struct { unsigned version; int sensor, celsius; } temperature_v1;
int nvmlDeviceGetTemperatureV(gpu *g, temperature_v1 *t) { CHECK(g); t->celsius = (int)celsius(g); return OK; }

int nvmlDeviceGetTemperatureThreshold(gpu *g, unsigned which, unsigned *t) {
  static const unsigned thresholds[] = {92, 89, 95, 87}; /* shutdown, slowdown, memory, GPU at its most */
  CHECK(g);
  if (which >= sizeof thresholds / sizeof *thresholds) return UNSUPPORTED;
  *t = thresholds[which];
  return OK;
}

int nvmlDeviceGetPowerUsage(gpu *g, unsigned *mw) {
  CHECK(g);
  *mw = (fault(g, "busy") ? 640000u : 75000u) + 1000u * (unsigned)g->index;
  return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(gpu *g, unsigned *mw) { CHECK(g); *mw = fault(g, "capped") ? 350000 : 700000; return OK; }
int nvmlDeviceGetPowerManagementDefaultLimit(gpu *g, unsigned *mw) { CHECK(g); *mw = 700000; return OK; }
int nvmlDeviceGetPowerManagementLimit(gpu *g, unsigned *mw) { return nvmlDeviceGetEnforcedPowerLimit(g, mw); }

typedef struct { unsigned gpu, memory; } utilization;
int nvmlDeviceGetUtilizationRates(gpu *g, utilization *u) {
  CHECK(g);
  u->gpu = fault(g, "busy") ? 97 : 0;
  u->memory = fault(g, "busy") ? 60 : 0;
  return OK;
}

int nvmlDeviceGetCurrentClocksEventReasons(gpu *g, u64 *reasons) {
  CHECK(g);
  *reasons = fault(g, "hot") ? 0x40 : fault(g, "busy") ? 0x0 : 0x1; /* hardware thermal slowdown, none, idle */
  return OK;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(gpu *g, u64 *reasons) {
  return nvmlDeviceGetCurrentClocksEventReasons(g, reasons);
}

/* -- modes -------------------------------------------------------------------------------------- */

int nvmlDeviceGetPersistenceMode(gpu *g, int *mode) { CHECK(g); *mode = !fault(g, "nopersistence"); return OK; }
int nvmlDeviceGetMigMode(gpu *g, unsigned *current, unsigned *pending) {
  CHECK(g);
  *current = (unsigned)fault(g, "mig");
  *pending = *current || fault(g, "pending");
  return OK;
}
int nvmlDeviceGetComputeMode(gpu *g, int *mode) { CHECK(g); *mode = 0; return OK; }

/* -- links -------------------------------------------------------------------------------------- */

int nvmlDeviceGetCurrPcieLinkGeneration(gpu *g, unsigned *generation) { CHECK(g); *generation = fault(g, "slot") ? 4 : 5; return OK; }
int nvmlDeviceGetMaxPcieLinkGeneration(gpu *g, unsigned *generation) { CHECK(g); *generation = fault(g, "slot") ? 4 : 5; return OK; }
int nvmlDeviceGetGpuMaxPcieLinkGeneration(gpu *g, unsigned *generation) { CHECK(g); *generation = 5; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(gpu *g, unsigned *width) { CHECK(g); *width = 16; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(gpu *g, unsigned *width) { CHECK(g); *width = fault(g, "pcie") ? 8 : 16; return OK; }

int nvmlDeviceGetNvLinkState(gpu *g, unsigned link, int *active) {
  CHECK(g);
  if (link >= LINKS) return INVALID;
  *active = !(link == 3 && fault(g, "nvlink"));
  return OK;
}
int nvmlDeviceGetNvLinkVersion(gpu *g, unsigned link, unsigned *version) {
  CHECK(g);
  if (link >= LINKS) return INVALID;
  *version = 4;
  return OK;
}
int nvmlDeviceGetNvLinkErrorCounter(gpu *g, unsigned link, int counter, u64 *value) {
  CHECK(g);
  if (link >= LINKS) return INVALID;
  *value = 0;
  return OK;
}

/* Six links to each of the three others, or all of them to the switches. */
static int switched(void) { char value[8]; return find("switches=", value, sizeof value) && strcmp(value, "yes") == 0; }
static int peer(const gpu *g, unsigned link) {
  int others = count() - 1;
  int place = others > 0 ? (int)link % others : 0;
  return place < g->index ? place : place + 1;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(gpu *g, unsigned link, int *type) {
  CHECK(g);
  if (link >= LINKS) return INVALID;
  *type = switched() ? 2 : 0; /* switch, GPU */
  return OK;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu *g, unsigned link, pci_info *pci) {
  CHECK(g);
  if (link >= LINKS || switched()) return INVALID;
  pci_of(peer(g, link), pci);
  return OK;
}

int nvmlDeviceGetP2PStatus(gpu *a, gpu *b, int capability, int *status) {
  CHECK(a);
  CHECK(b);
  if (a == b) return INVALID;
  if (fault(a, "p2p") || fault(b, "p2p")) { *status = 5; return OK; } /* not supported */
  *status = capability == 2 && (fault(a, "nvlink") || fault(b, "nvlink")) ? 6 : 0; /* unknown, or well */
  return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(gpu *a, gpu *b, int *level) {
  CHECK(a);
  CHECK(b);
  *level = a == b ? 0 : a->index / 2 == b->index / 2 ? 40 : 50; /* one GPU, one CPU socket, across sockets */
  return OK;
}

/* Four H200 joined by bridges have no NVSwitch, so there is no fabric to register with. */
typedef struct { unsigned version; unsigned char cluster[16]; int status; unsigned clique; unsigned char state; unsigned health; } fabric_v2;
typedef struct { unsigned char cluster[16]; int status; unsigned clique; unsigned char state; } fabric_v1;
static unsigned char fabric_state(const gpu *g) { return !switched() ? 0 : fault(g, "fabric") ? 2 : 3; } /* none, in progress, completed */
int nvmlDeviceGetGpuFabricInfo(gpu *g, fabric_v1 *f) {
  CHECK(g);
  memset(f, 0, sizeof *f);
  f->state = fabric_state(g);
  return OK;
}
int nvmlDeviceGetGpuFabricInfoV(gpu *g, fabric_v2 *f) {
  CHECK(g);
  unsigned version = f->version;
  memset(f, 0, sizeof *f);
  f->version = version;
  f->state = fabric_state(g);
  f->health = switched() ? 0xaa : 0; /* each of the four conditions is known and false */
  return OK;
}

/* -- fields ------------------------------------------------------------------------------------- */

typedef struct { unsigned id, scope; long long time, latency_us; unsigned type; int result; u64 value; } field;
int nvmlDeviceGetFieldValues(gpu *g, int n, field *fields) {
  CHECK(g);
  for (int i = 0; i < n; i++) {
    fields[i].time = (long long)time(NULL) * 1000000;
    fields[i].latency_us = 0;
    fields[i].type = 1; /* unsigned int */
    fields[i].result = fields[i].id == RECOVERY_ACTION_FIELD ? OK : UNSUPPORTED;
    fields[i].value = fault(g, "remapfail") ? 1 : fault(g, "ecc") ? 4 : 0; /* reset; drain and reset; none */
  }
  return OK;
}

/* -- programs: there is none on a GPU that does not exist ---------------------------------------- */

int nvmlDeviceGetComputeRunningProcesses_v3(gpu *g, unsigned *n, void *processes) { CHECK(g); *n = 0; return OK; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu *g, unsigned *n, void *processes) { CHECK(g); *n = 0; return OK; }

/* -- events ------------------------------------------------------------------------------------- */

typedef struct { int registered[MAX_GPUS]; long told[MAX_GPUS]; } event_set;
typedef struct { gpu *gpu; u64 type, data; unsigned gpu_instance, compute_instance; } event;

int nvmlEventSetCreate(event_set **set) { return (*set = calloc(1, sizeof **set)) ? OK : 20; }
int nvmlEventSetFree(event_set *set) { free(set); return OK; }
int nvmlDeviceGetSupportedEventTypes(gpu *g, u64 *types) { CHECK(g); *types = 0x1f; return OK; }
int nvmlDeviceRegisterEvents(gpu *g, u64 types, event_set *set) {
  CHECK(g);
  if (types & XID_CRITICAL) set->registered[g->index] = 1;
  return OK;
}

static int next_xid(event_set *set, event *e) {
  char rest[32];
  for (int i = 0; i < count(); i++) {
    long xid = fault_rest(&gpus[i], "xid", rest, sizeof rest) ? strtol(rest, NULL, 10) : 0;
    if (!set->registered[i] || xid == set->told[i]) continue;
    set->told[i] = xid;
    if (xid == 0) continue; /* the fault was taken away; it may come again */
    *e = (event){.gpu = &gpus[i], .type = XID_CRITICAL, .data = (u64)xid, .gpu_instance = ~0u, .compute_instance = ~0u};
    return 1;
  }
  return 0;
}

int nvmlEventSetWait_v2(event_set *set, event *e, unsigned timeout_ms) {
  const struct timespec step = {.tv_nsec = 50000000};
  for (unsigned waited = 0;; waited += 50) {
    if (next_xid(set, e)) return OK;
    if (waited >= timeout_ms) return TIMED_OUT;
    nanosleep(&step, NULL);
  }
}
int nvmlEventSetWait(event_set *set, event *e, unsigned timeout_ms) { return nvmlEventSetWait_v2(set, e, timeout_ms); }
