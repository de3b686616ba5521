/* XML without a document type: elements, attributes, text, the five entities, character references, comments, CDATA. */
#ifndef DATA_XML_H
#define DATA_XML_H

#include "core/str.h"

enum { XML_DEPTH_MAX = 64 };
enum xml_event { XML_END, XML_OPEN, XML_CLOSE, XML_TEXT };

/* A walk over the bytes of a file; nothing is copied. */
struct xml {
    struct text file;
    size_t at;
    struct text open[XML_DEPTH_MAX]; /* names of the elements around */
    size_t depth;
    struct text name, attributes; /* of XML_OPEN and XML_CLOSE */
    struct text text;             /* of XML_TEXT, as written */
    bool raw;                     /* it was CDATA: nothing in it stands for anything else */
    bool closing;                 /* <a/> has been opened and is to be closed */
    bool began;                   /* the root element has been met */
};

void xml_begin(struct xml *x, struct text file); /* a byte order mark is passed over */
/* An xml_event, or ERR_FORMAT with "line N: ...". Elements close as they opened, there is one root, and nothing but blanks is
 * beside it. XML_TEXT comes in as many pieces as comments and CDATA make of it. */
int xml_next(struct xml *x, struct err *e);
/* What the piece of text says, appended to out: entities replaced, line ends LF. */
int xml_add_text(struct xml *x, struct str *out, struct err *e);
/* The value of an attribute of XML_OPEN, put into out, entities replaced. ERR_FORMAT if there is none. */
int xml_attribute(struct xml *x, const char *name, struct str *out, struct err *e);
/* err_set for the place in the file. Returns ERR_FORMAT. */
int xml_fail(const struct xml *x, size_t at, struct err *e, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
