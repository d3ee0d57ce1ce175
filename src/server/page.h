// The page at `/`: the files of src/server/page/, which the build puts into the program. Any
// thread.
#pragma once

#include <span>
#include <string_view>

#include "http/message.h"

namespace mach::server {

inline constexpr std::string_view kPageIndex = "index.html";  // what `/` is

struct PageFile {
  std::string_view name;
  std::string_view content_type;
  std::string_view etag;  // of its bytes, in quotes
  std::string_view text;
};

std::span<const PageFile> PageFiles();  // made by cmake/EmbedPage.cmake

// Null if there is none of that name.
const PageFile* FindPageFile(std::string_view name);

// The file, or 304 if `if_none_match`, as the request has it, names it.
http::Response PageResponse(const PageFile& file, std::string_view if_none_match);

}  // namespace mach::server
