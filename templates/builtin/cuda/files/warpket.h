// What a CUDA C++ function needs to talk to warpket: the input of the execution
// and its result, both JSON, and a check for calls of CUDA. What is printed is
// the log.
#pragma once

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace warpket {

// Json is a value of JSON.
class Json {
  public:
    enum class Kind { null, boolean, number, string, array, object };

    Json() = default;
    Json(std::nullptr_t) {}
    Json(bool value) : kind_(Kind::boolean), number_(value) {}
    Json(double value) : kind_(Kind::number), number_(value) {}
    Json(int value) : Json(static_cast<double>(value)) {}
    Json(long value) : Json(static_cast<double>(value)) {}
    Json(long long value) : Json(static_cast<double>(value)) {}
    Json(unsigned value) : Json(static_cast<double>(value)) {}
    Json(unsigned long value) : Json(static_cast<double>(value)) {}
    Json(unsigned long long value) : Json(static_cast<double>(value)) {}
    Json(std::string value) : kind_(Kind::string), string_(std::move(value)) {}
    Json(const char *value) : Json(std::string(value)) {}
    template <typename T> Json(const std::vector<T> &values) : kind_(Kind::array), array_(values.begin(), values.end()) {}
    Json(std::initializer_list<std::pair<const std::string, Json>> fields) : kind_(Kind::object), object_(fields) {}

    Kind kind() const { return kind_; }

    // number gives a number, or otherwise if there is none. What is there and is
    // no number is an error.
    double number(double otherwise) const {
        if (kind_ == Kind::null) return otherwise;
        if (kind_ != Kind::number) throw std::runtime_error("the input has something else where a number is expected");
        return number_;
    }

    // integer is number for whole numbers between two bounds.
    long long integer(long long otherwise, long long least, long long most) const {
        double value = number(static_cast<double>(otherwise));
        if (value != std::floor(value) || value < least || value > most)
            throw std::runtime_error("the input has " + Json(value).dump() + " where a whole number from " + std::to_string(least) + " to " + std::to_string(most) + " is expected");
        return static_cast<long long>(value);
    }

    std::string text(const std::string &otherwise) const {
        if (kind_ == Kind::null) return otherwise;
        if (kind_ != Kind::string) throw std::runtime_error("the input has something else where a text is expected");
        return string_;
    }

    // [name] is a field of an object; null if there is none.
    const Json &operator[](const std::string &name) const {
        static const Json none;
        auto found = object_.find(name);
        return found == object_.end() ? none : found->second;
    }

    const std::vector<Json> &items() const { return array_; }

    std::string dump() const {
        switch (kind_) {
        case Kind::boolean: return number_ != 0 ? "true" : "false";
        case Kind::number: return dumpNumber();
        case Kind::string: return quote(string_);
        case Kind::array: {
            std::string out = "[";
            for (const Json &item : array_) out += (out.size() > 1 ? "," : "") + item.dump();
            return out + "]";
        }
        case Kind::object: {
            std::string out = "{";
            for (const auto &field : object_) out += (out.size() > 1 ? "," : "") + quote(field.first) + ":" + field.second.dump();
            return out + "}";
        }
        default: return "null";
        }
    }

    static Json parse(const std::string &text) {
        Parser parser{text, 0, 0};
        Json value = parser.value();
        parser.space();
        if (parser.at != text.size()) parser.fail();
        return value;
    }

  private:
    Kind kind_ = Kind::null;
    double number_ = 0;
    std::string string_;
    std::vector<Json> array_;
    std::map<std::string, Json> object_;

    std::string dumpNumber() const {
        if (!std::isfinite(number_)) throw std::runtime_error("the result has a number that is infinite or none: JSON has no such");
        char text[32];
        std::snprintf(text, sizeof text, "%.17g", number_);
        return text;
    }

    static std::string quote(const std::string &text) {
        std::string out = "\"";
        for (unsigned char c : text) {
            if (c == '"' || c == '\\') {
                out += '\\';
                out += static_cast<char>(c);
            } else if (c < 0x20) {
                char escaped[8];
                std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
                out += escaped;
            } else {
                out += static_cast<char>(c);
            }
        }
        return out + '"';
    }

    struct Parser {
        const std::string &text;
        std::size_t at;
        int depth;

        [[noreturn]] void fail() const { throw std::runtime_error("the input is not JSON at byte " + std::to_string(at)); }

        void space() {
            while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) at++;
        }

        bool take(const std::string &word) {
            if (text.compare(at, word.size(), word) != 0) return false;
            at += word.size();
            return true;
        }

        Json value() {
            if (++depth > 200) fail();
            space();
            Json out;
            if (take("{")) {
                out.kind_ = Kind::object;
                for (space(); !take("}"); space()) {
                    if (!out.object_.empty() && !take(",")) fail();
                    space();
                    std::string name = string();
                    space();
                    if (!take(":")) fail();
                    out.object_[name] = value();
                }
            } else if (take("[")) {
                out.kind_ = Kind::array;
                for (space(); !take("]"); space()) {
                    if (!out.array_.empty() && !take(",")) fail();
                    out.array_.push_back(value());
                }
            } else if (at < text.size() && text[at] == '"') {
                out = Json(string());
            } else if (take("true")) {
                out = Json(true);
            } else if (take("false")) {
                out = Json(false);
            } else if (!take("null")) {
                out = number();
            }
            depth--;
            return out;
        }

        Json number() {
            char *end = nullptr;
            if (at >= text.size() || (text[at] != '-' && (text[at] < '0' || text[at] > '9'))) fail();
            double value = std::strtod(text.c_str() + at, &end);
            at = static_cast<std::size_t>(end - text.c_str());
            return Json(value);
        }

        std::string string() {
            std::string out;
            if (!take("\"")) fail();
            while (at < text.size() && text[at] != '"') {
                char c = text[at++];
                if (c != '\\') {
                    out += c;
                    continue;
                }
                if (at >= text.size()) fail();
                switch (c = text[at++]) {
                case 'n': out += '\n'; break;
                case 't': out += '\t'; break;
                case 'r': out += '\r'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case 'u': unicode(out); break;
                default: out += c;
                }
            }
            if (!take("\"")) fail();
            return out;
        }

        unsigned hex() {
            if (at + 4 > text.size()) fail();
            char *end = nullptr;
            std::string digits = text.substr(at, 4);
            unsigned code = static_cast<unsigned>(std::strtoul(digits.c_str(), &end, 16));
            if (*end != 0) fail();
            at += 4;
            return code;
        }

        void unicode(std::string &out) {
            unsigned code = hex();
            if (code >= 0xd800 && code < 0xdc00 && take("\\u")) code = 0x10000 + ((code - 0xd800) << 10) + (hex() - 0xdc00);
            if (code < 0x80) {
                out += static_cast<char>(code);
            } else if (code < 0x800) {
                out += static_cast<char>(0xc0 | code >> 6);
                out += static_cast<char>(0x80 | (code & 0x3f));
            } else if (code < 0x10000) {
                out += static_cast<char>(0xe0 | code >> 12);
                out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
                out += static_cast<char>(0x80 | (code & 0x3f));
            } else {
                out += static_cast<char>(0xf0 | code >> 18);
                out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
                out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
                out += static_cast<char>(0x80 | (code & 0x3f));
            }
        }
    };
};

// input is the input of the execution.
inline Json input() {
    std::string text((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
    return text.empty() ? Json() : Json::parse(text);
}

// result gives the result of the execution. Call it once.
inline void result(const Json &value) {
    const char *named = std::getenv("WARPKET_RESULT_FD");
    int descriptor = named ? std::atoi(named) : STDOUT_FILENO;
    std::string text = value.dump();
    for (std::size_t written = 0; written < text.size();) {
        ssize_t n = write(descriptor, text.data() + written, text.size() - written);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw std::runtime_error("the result cannot be written");
        written += static_cast<std::size_t>(n);
    }
}

// seed is the seed of the execution: the same one is to give the same result.
inline unsigned long long seed() {
    const char *text = std::getenv("WARPKET_SEED");
    return text ? std::strtoull(text, nullptr, 10) : 0;
}

// run calls a program that throws, and says what was wrong.
template <typename Main> int run(Main main) {
    try {
        main();
        return 0;
    } catch (const std::exception &e) {
        std::cerr << e.what() << std::endl;
        return 1;
    }
}

} // namespace warpket

// CUDA_CHECK throws when a call of CUDA has failed, and says where.
#define CUDA_CHECK(call)                                                                                                          \
    do {                                                                                                                          \
        cudaError_t status_ = (call);                                                                                             \
        if (status_ != cudaSuccess)                                                                                               \
            throw std::runtime_error(std::string(__FILE__ ":") + std::to_string(__LINE__) + ": " + cudaGetErrorString(status_)); \
    } while (0)
