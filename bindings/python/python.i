/* python.i - Python's half of rukun.i. The module is made with -threads: the interpreter's
 * lock is free while a call waits. */
%include <stdint.i>

%{
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* --- ending a call that blocks */

/* A thread that lends itself to someone else, as those of rukun.aio do, names a flag by
 * which that one can end its calls. */
struct cancel {
    atomic_int is_set;
};

static _Thread_local struct cancel *thread_cancel;

/* Asked by librukun while a call blocks, in the thread that blocks and without the
 * interpreter's lock. Signal handlers of Python run in the main thread only. */
static int interrupted(void *context)
{
    (void)context;
    if (thread_cancel != NULL && atomic_load(&thread_cancel->is_set)) return 1;
    if (gettid() != getpid()) return 0;
    PyGILState_STATE state = PyGILState_Ensure();
    int is_interrupted = PyErr_Occurred() != NULL || PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return is_interrupted;
}

/* --- errors */

/* Makes the exception of a failed call; set by rukun.errors. */
static PyObject *error_factory;

static void error_raise(rukun_status status, const rukun_error *err)
{
    if (error_factory == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s: %s", rukun_status_name(status), err->message);
        return;
    }
    PyObject *arguments = Py_BuildValue(
        "(iNNNiNNN)", (int)status,
        PyUnicode_DecodeUTF8(err->message, (Py_ssize_t)strlen(err->message), "replace"),
        PyUnicode_DecodeUTF8(err->field, (Py_ssize_t)strlen(err->field), "replace"),
        PyUnicode_DecodeUTF8(err->node, (Py_ssize_t)strlen(err->node), "replace"),
        err->outcome, PyBool_FromLong(err->retryable),
        PyLong_FromUnsignedLongLong(err->request_id),
        PyLong_FromUnsignedLongLong(err->retry_after_ms));
    if (arguments == NULL) return;
    PyObject *error = PyObject_CallObject(error_factory, arguments);
    Py_DECREF(arguments);
    if (error == NULL) return;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

/* True if the wrapper is to fail: the call did, or a signal handler raised meanwhile. What
 * the call has made until then goes the way of all objects, so a lock is released. */
static int call_failed(rukun_status status, const rukun_error *err, PyObject **result)
{
    if (status == RUKUN_OK && PyErr_Occurred() == NULL) return 0;
    PyObject *type = NULL, *value = NULL, *trace = NULL;
    PyErr_Fetch(&type, &value, &trace);
    Py_CLEAR(*result);
    if (type != NULL)
        PyErr_Restore(type, value, trace);
    else
        error_raise(status, err);
    return 1;
}

/* --- values in */

/* Borrowed from the object. NULL with an exception, or without one for None. */
static const char *text_take(PyObject *object, const char *name)
{
    if (object == Py_None) return NULL;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: expected str, got %.80s", name,
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);
    if (text != NULL && strlen(text) != (size_t)size) {
        PyErr_Format(PyExc_ValueError, "%s: has a NUL character", name);
        return NULL;
    }
    return text;
}

static void uint64_take(PyObject *object, const char *name, uint64_t max, uint64_t *out)
{
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: expected int, got %.80s", name,
                     Py_TYPE(object)->tp_name);
        return;
    }
    unsigned long long number = PyLong_AsUnsignedLongLong(object);
    if (PyErr_Occurred() == NULL && number <= max) {
        *out = number;
        return;
    }
    PyErr_Format(PyExc_ValueError, "%s: %R is not in 0..%llu", name, object,
                 (unsigned long long)max);
}

static int int_take(PyObject *object, const char *name)
{
    long number = PyLong_Check(object) ? PyLong_AsLong(object) : LONG_MAX;
    if (number >= INT_MIN && number <= INT_MAX) return (int)number;
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "%s: expected a small int, got %R", name, object);
    return 0;
}

static void option_take(PyObject *object, const struct option *option, void *opts)
{
    char *at = (char *)opts + option->offset;
    uint64_t number = 0;
    switch (option->kind) {
    case OPTION_TEXT: *(const char **)at = text_take(object, option->name); break;
    case OPTION_WAIT:
        if (object == Py_None)
            *(uint64_t *)at = RUKUN_WAIT_FOREVER;
        else
            uint64_take(object, option->name, INT64_MAX, (uint64_t *)at);
        break;
    case OPTION_UINT64: uint64_take(object, option->name, INT64_MAX, (uint64_t *)at); break;
    case OPTION_UINT32:
        uint64_take(object, option->name, UINT32_MAX, &number);
        *(uint32_t *)at = (uint32_t)number;
        break;
    case OPTION_INT: *(int *)at = int_take(object, option->name); break;
    case OPTION_BOOLEAN: *(int *)at = PyObject_IsTrue(object); break;
    case OPTION_MODE:
        *(rukun_mode *)at = PyObject_IsTrue(object) > 0 ? RUKUN_SHARED : RUKUN_EXCLUSIVE;
        break;
    }
}

/* 0, or -1 with an exception. */
static int options_take(PyObject *object, const struct option *options, void *opts)
{
    if (object == Py_None) return 0;
    if (!PyDict_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "options: expected dict");
        return -1;
    }
    PyObject *key = NULL, *value = NULL;
    Py_ssize_t at = 0;
    while (PyDict_Next(object, &at, &key, &value)) {
        const char *name = text_take(key, "option");
        if (name == NULL) return -1;
        const struct option *option = option_find(options, name);
        if (option == NULL) {
            PyErr_Format(PyExc_TypeError, "there is no option %s", name);
            return -1;
        }
        option_take(value, option, opts);
        if (PyErr_Occurred() != NULL) return -1;
    }
    return 0;
}

/* A message is (bytes, encoding); the bytes are borrowed. */
static int message_take(PyObject *object, rukun_message *out)
{
    PyObject *data = NULL;
    int encoding = 0;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "a message is (bytes, encoding)");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "Si", &data, &encoding)) return -1;
    out->data = PyBytes_AS_STRING(data);
    out->size = (size_t)PyBytes_GET_SIZE(data);
    out->encoding = (rukun_encoding)encoding;
    return 0;
}

static rukun_message *messages_take(PyObject *object, size_t *count)
{
    if (!PyList_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "messages: expected list");
        return NULL;
    }
    *count = (size_t)PyList_GET_SIZE(object);
    rukun_message *messages = calloc(*count + 1, sizeof(*messages));
    if (messages == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        if (message_take(PyList_GET_ITEM(object, (Py_ssize_t)i), &messages[i]) == 0) continue;
        free(messages);
        return NULL;
    }
    return messages;
}
%}

/* --- typemaps in */

%typemap(in) const char * {
    $1 = ($1_ltype)text_take($input, "$1_name");
    if (PyErr_Occurred() != NULL) SWIG_fail;
}
%typemap(freearg) const char * "";

/* None is for ever, or the topic's own backoff. */
%typemap(in) uint64_t delay_ms {
    if ($input == Py_None)
        $1 = RUKUN_WAIT_FOREVER;
    else
        uint64_take($input, "$1_name", INT64_MAX, &$1);
    if (PyErr_Occurred() != NULL) SWIG_fail;
}

%define OPTIONS_IN(TYPE, TABLE)
%typemap(in) const TYPE *opts (TYPE temp) {
    TYPE##_init(&temp);
    if (options_take($input, TABLE, &temp) != 0) SWIG_fail;
    $1 = &temp;
}
%enddef
OPTIONS_IN(rukun_lock_opts, lock_options)
OPTIONS_IN(rukun_publish_opts, publish_options)
OPTIONS_IN(rukun_consume_opts, consume_options)
OPTIONS_IN(rukun_put_opts, put_options)

%typemap(in) const rukun_options *opts (rukun_options temp) {
    rukun_options_init(&temp);
    if (options_take($input, client_options, &temp) != 0) SWIG_fail;
    temp.interrupted = interrupted;
    $1 = &temp;
}

%typemap(in) const rukun_message * (rukun_message temp) {
    if (message_take($input, &temp) != 0) SWIG_fail;
    $1 = &temp;
}
%typemap(in) (const rukun_message *messages, size_t count) {
    $1 = messages_take($input, &$2);
    if ($1 == NULL) SWIG_fail;
}
%typemap(freearg) (const rukun_message *messages, size_t count) { free($1); }

/* --- typemaps out */

%typemap(out) rukun_status { $result = Py_None; Py_INCREF($result); }

%define OUT(TYPE)
%typemap(in, numinputs=0) TYPE **out (TYPE *temp = NULL) { $1 = &temp; }
%typemap(argout) TYPE **out {
    $result = SWIG_Python_AppendOutput(
        $result, SWIG_NewPointerObj(*$1, $*1_descriptor, SWIG_POINTER_OWN));
}
%enddef
OUT(rukun_client)
OUT(rukun_lock)
OUT(rukun_deliveries)
OUT(rukun_value)

%typemap(in, numinputs=0) rukun_text **out (rukun_text *temp = NULL) { $1 = &temp; }
%typemap(argout) rukun_text **out {
    if (*$1 != NULL)
        $result = SWIG_Python_AppendOutput(
            $result, PyUnicode_DecodeUTF8(rukun_text_data(*$1),
                                          (Py_ssize_t)rukun_text_size(*$1), NULL));
    rukun_text_free(*$1);
}

%typemap(in, numinputs=0) char *id (char temp[RUKUN_ID_SIZE]) {
    temp[0] = '\0';
    $1 = temp;
}
%typemap(argout) char *id {
    if (result == RUKUN_OK)
        $result = SWIG_Python_AppendOutput($result, PyUnicode_FromString($1));
}
%typemap(argout) const char *id "";

/* As many as were given; an id is never empty. */
%typemap(in, numinputs=0) char *ids {
    $1 = calloc(1001, RUKUN_ID_SIZE);
    if ($1 == NULL) {
        PyErr_NoMemory();
        SWIG_fail;
    }
}
%typemap(argout) char *ids {
    PyObject *list = PyList_New(0);
    for (const char *id = $1; list != NULL && result == RUKUN_OK && *id != '\0';
         id += RUKUN_ID_SIZE) {
        PyObject *text = PyUnicode_FromString(id);
        if (text == NULL || PyList_Append(list, text) != 0) Py_CLEAR(list);
        Py_XDECREF(text);
    }
    $result = SWIG_Python_AppendOutput($result, list);
}
%typemap(freearg) char *ids { free($1); }

%typemap(in, numinputs=0) uint64_t *version (uint64_t temp = 0) { $1 = &temp; }
%typemap(argout) uint64_t *version {
    $result = SWIG_Python_AppendOutput($result, PyLong_FromUnsignedLongLong(*$1));
}
%typemap(in, numinputs=0) int64_t *value (int64_t temp = 0) { $1 = &temp; }
%typemap(argout) int64_t *value {
    $result = SWIG_Python_AppendOutput($result, PyLong_FromLongLong(*$1));
}
%typemap(in, numinputs=0) int *deleted (int temp = 0) { $1 = &temp; }
%typemap(argout) int *deleted {
    $result = SWIG_Python_AppendOutput($result, PyBool_FromLong(*$1));
}

%typemap(in, numinputs=0) size_t *size (size_t temp = 0) { $1 = &temp; }
%typemap(out) const void * { $result = NULL; }
%typemap(argout) size_t *size {
    $result = PyBytes_FromStringAndSize((const char *)result, (Py_ssize_t)*$1);
}

/* Last of all parameters, so it has the last word about the result. */
%typemap(in, numinputs=0) rukun_error *err (rukun_error temp) {
    rukun_error_init(&temp);
    $1 = &temp;
}
%typemap(argout) rukun_error *err {
    if (call_failed(result, $1, &$result)) SWIG_fail;
}

/* Plain reads: not worth giving the interpreter's lock away for. */
%nothread rukun_status_name;
%nothread rukun_version;
%nothread rukun_lock_fence;
%nothread rukun_lock_resource;
%nothread rukun_lock_owner;
%nothread rukun_deliveries_count;
%nothread rukun_delivery_id;
%nothread rukun_delivery_message_id;
%nothread rukun_delivery_attempt;
%nothread rukun_delivery_data;
%nothread rukun_delivery_encoding;
%nothread rukun_value_data;
%nothread rukun_value_encoding;
%nothread rukun_value_version;
%nothread rukun_value_is_stale;

/* --- the module's own functions */

%nothread error_factory_use;
%nothread cancel_use;
%nothread cancel::set;

struct cancel {};
%extend cancel {
    cancel() { return calloc(1, sizeof(struct cancel)); }
    ~cancel() { free($self); }
    void set(void) { atomic_store(&$self->is_set, 1); }
}

%inline %{
/* Calls of this thread end with RUKUN_ECANCELLED once the flag is set; None: no flag. The
 * caller keeps the object alive until it names another. */
static void cancel_use(struct cancel *cancel)
{
    thread_cancel = cancel;
}

/* factory(code, message, field, node, outcome, retryable, request_id, retry_after_ms)
 * makes the exception that a failed call raises. */
static void error_factory_use(PyObject *factory)
{
    Py_INCREF(factory);
    Py_XDECREF(error_factory);
    error_factory = factory;
}
%}
