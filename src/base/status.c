/* Status codes as text, and the proof that the floor's codes are the public ones. */
#include "reasondistill/status.h"
#include "core/err.h"

_Static_assert((int)ERR_INVALID == (int)RSD_EINVAL && (int)ERR_NOMEM == (int)RSD_ENOMEM && (int)ERR_IO == (int)RSD_EIO &&
                   (int)ERR_FORMAT == (int)RSD_EFORMAT && (int)ERR_VERSION == (int)RSD_EVERSION &&
                   (int)ERR_BUSY == (int)RSD_EBUSY && (int)ERR_NUMERIC == (int)RSD_ENUMERIC &&
                   (int)ERR_UNSUPPORTED == (int)RSD_EUNSUPPORTED && (int)ERR_MISMATCH == (int)RSD_EMISMATCH &&
                   (int)ERR_NOTFOUND == (int)RSD_ENOTFOUND,
               "a floor error passes through as a status without translation");

const char *rsd_strerror(int status) {
    switch (status) {
#define STATUS_CASE(name, value, text)                                                                                           \
    case value:                                                                                                                  \
        return text;
        RSD_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "unknown status";
    }
}

const char *rsd_version(void) {
    return RSD_VERSION_STRING;
}
